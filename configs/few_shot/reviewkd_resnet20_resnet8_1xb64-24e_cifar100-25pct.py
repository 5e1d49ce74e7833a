_base_ = ['../_base_/pairs/resnet20_resnet8_cifar100-25pct.py']

model = dict(type='ReviewKD', loss_weights=dict(loss_review=dict(weight=0.6, warmup_epochs=2)))

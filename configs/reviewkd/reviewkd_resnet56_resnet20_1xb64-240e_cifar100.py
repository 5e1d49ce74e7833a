_base_ = ['../_base_/pairs/resnet56_resnet20_cifar100.py']

model = dict(type='ReviewKD', loss_weights=dict(loss_review=dict(weight=0.6, warmup_epochs=20)))
optim_wrapper = dict(optimizer=dict(nesterov=False))

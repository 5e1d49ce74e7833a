_base_ = ['../_base_/pairs/resnet32x4_resnet8x4_cifar100.py']

model = dict(type='ReviewKD', loss_weights=dict(loss_review=dict(weight=5.0, warmup_epochs=20)))
optim_wrapper = dict(optimizer=dict(nesterov=False))

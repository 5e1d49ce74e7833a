_base_ = ['../_base_/pairs/resnet32x4_resnet8x4_cifar100.py']

model = dict(type='FSP')
optim_wrapper = dict(optimizer=dict(nesterov=False))
param_scheduler = dict(milestones=[])
train_cfg = dict(max_epochs=30)

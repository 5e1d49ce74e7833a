_base_ = ['../_base_/pairs/wrn-40-2_wrn-16-2_cifar100.py']

model = dict(type='FSP')
optim_wrapper = dict(optimizer=dict(nesterov=False))
param_scheduler = dict(milestones=[])
train_cfg = dict(max_epochs=30)

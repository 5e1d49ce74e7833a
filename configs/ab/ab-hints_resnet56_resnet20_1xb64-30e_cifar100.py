_base_ = ['../_base_/pairs/resnet56_resnet20_cifar100.py']

model = dict(type='AB')
param_scheduler = dict(milestones=[])
train_cfg = dict(max_epochs=30)

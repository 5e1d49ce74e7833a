_base_ = ['../_base_/pairs/resnet50_mobilenet-v2_cifar100.py']

model = dict(type='AB')
param_scheduler = dict(milestones=[])
train_cfg = dict(max_epochs=30)

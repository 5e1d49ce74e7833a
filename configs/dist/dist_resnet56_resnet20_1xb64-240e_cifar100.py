_base_ = ['../_base_/pairs/resnet56_resnet20_cifar100.py']

model = dict(type='DIST')
optim_wrapper = dict(optimizer=dict(nesterov=False))

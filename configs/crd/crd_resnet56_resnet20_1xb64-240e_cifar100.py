_base_ = ['../_base_/pairs/resnet56_resnet20_cifar100.py']

model = dict(type='CRD')

_base_ = ['../_base_/pairs/resnet20_resnet8_cifar100.py']

model = dict(type='AT')

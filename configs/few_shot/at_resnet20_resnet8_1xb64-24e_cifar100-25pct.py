_base_ = ['../_base_/pairs/resnet20_resnet8_cifar100-25pct.py']

model = dict(type='AT')

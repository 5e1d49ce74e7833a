_base_ = ['../_base_/pairs/resnet32x4_resnet8x4_cifar100.py']

model = dict(type='CRD')

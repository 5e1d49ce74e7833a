_base_ = ['../_base_/pairs/resnet32x4_shufflenet-v2_cifar100.py']

model = dict(type='CRD')

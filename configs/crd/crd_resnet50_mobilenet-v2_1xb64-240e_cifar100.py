_base_ = ['../_base_/pairs/resnet50_mobilenet-v2_cifar100.py']

model = dict(type='CRD')

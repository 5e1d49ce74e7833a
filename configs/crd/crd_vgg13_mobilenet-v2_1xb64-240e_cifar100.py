_base_ = ['../_base_/pairs/vgg13_mobilenet-v2_cifar100.py']

model = dict(type='CRD')

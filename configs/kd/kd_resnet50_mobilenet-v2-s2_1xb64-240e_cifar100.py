_base_ = ['../_base_/pairs/resnet50_mobilenet-v2-s2_cifar100.py']

model = dict(type='KD')

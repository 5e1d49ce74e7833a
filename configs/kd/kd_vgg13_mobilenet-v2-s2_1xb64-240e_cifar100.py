_base_ = ['../_base_/pairs/vgg13_mobilenet-v2-s2_cifar100.py']

model = dict(type='KD')

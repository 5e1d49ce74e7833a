_base_ = ['../_base_/pairs/vgg13_vgg8_cifar100.py']

model = dict(type='KD')

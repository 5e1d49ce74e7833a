_base_ = ['../_base_/pairs/wrn-40-2_wrn-16-2_cifar100.py']

model = dict(type='CRD')

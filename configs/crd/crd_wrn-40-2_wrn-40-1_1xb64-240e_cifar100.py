_base_ = ['../_base_/pairs/wrn-40-2_wrn-40-1_cifar100.py']

model = dict(type='CRD')

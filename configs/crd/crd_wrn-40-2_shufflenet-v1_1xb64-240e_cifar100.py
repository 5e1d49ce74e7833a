_base_ = ['../_base_/pairs/wrn-40-2_shufflenet-v1_cifar100.py']

model = dict(type='CRD')

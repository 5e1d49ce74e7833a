_base_ = ['../baseline/wrn-40-2_1xb128-300e_cifar100.py']

model = dict(type='MCL', networks=2 * [_base_.pop('model')])

_base_ = ['../baseline/wrn-40-2_1xb64-240e_cifar100.py']

model = dict(type='DML', networks=2 * [_base_.pop('model')])

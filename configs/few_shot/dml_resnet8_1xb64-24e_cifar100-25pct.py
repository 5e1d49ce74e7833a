_base_ = ['resnet8_1xb64-24e_cifar100-25pct.py']

model = dict(type='DML', networks=2 * [_base_.pop('model')])

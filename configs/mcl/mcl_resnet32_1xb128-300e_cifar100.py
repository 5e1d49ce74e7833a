_base_ = ['../baseline/resnet32_1xb128-300e_cifar100.py']

model = dict(type='MCL', networks=2 * [_base_.pop('model')])

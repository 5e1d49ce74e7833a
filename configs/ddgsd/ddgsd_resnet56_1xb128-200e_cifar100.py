_base_ = ['../baseline/resnet56_1xb128-200e_cifar100.py']

model = dict(type='DDGSD', student=_base_.pop('model'))

_base_ = ['../baseline/wrn-16-2_1xb128-200e_cifar100.py']

model = dict(type='BAKE', student=_base_.pop('model'))

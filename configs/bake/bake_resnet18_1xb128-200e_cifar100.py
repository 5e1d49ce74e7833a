_base_ = ['../baseline/resnet18_1xb128-200e_cifar100.py']

model = dict(type='BAKE', student=_base_.pop('model'))

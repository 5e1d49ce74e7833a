_base_ = ['../baseline/resnet18_1xb128-200e_cifar100.py']

model = dict(type='DDGSD', student=_base_.pop('model'))

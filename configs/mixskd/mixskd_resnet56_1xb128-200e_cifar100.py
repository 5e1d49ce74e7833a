_base_ = ['../baseline/resnet56_1xb128-200e_cifar100.py']

model = dict(
    type='MixSKD',
    student=dict(
        _base_.pop('model'),
        transforms=dict(type='NoTransform'),
        branches=dict(type='AuxiliaryBranches', stages=[0, 1]),
    ),
)

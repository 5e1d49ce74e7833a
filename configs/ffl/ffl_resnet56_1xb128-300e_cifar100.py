_base_ = ['../baseline/resnet56_1xb128-300e_cifar100.py']

model = dict(
    type='FFL',
    student=dict(
        _base_.pop('model'),
        transforms=dict(type='NoTransform'),
        branches=dict(type='AuxiliaryBranches', stages=[1]),
    ),
)
param_scheduler = dict(_delete_=True, type='MultiStepLR', milestones=[150, 225], gamma=0.1)

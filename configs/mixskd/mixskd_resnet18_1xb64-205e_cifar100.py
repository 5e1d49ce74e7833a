_base_ = ['../_base_/networks/resnet18-cifar.py', '../_base_/recipes/1xb64-205e_cifar100.py']

model = dict(
    type='MixSKD',
    student=dict(
        _base_.pop('model'),
        transforms=dict(type='NoTransform'),
        branches=dict(type='AuxiliaryBranches', stages=[0, 1, 2]),
    ),
)

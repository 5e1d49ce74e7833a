_base_ = ['../baseline/resnet18_1xb128-200e_cifar100.py']

model = dict(
    type='MixSKD',
    student=dict(
        _base_.pop('model'),
        transforms=dict(type='NoTransform'),
        branches=dict(type='AuxiliaryBranches', stages=[0, 1, 2]),
    ),
)

train_dataloader = dict(batch_size=64)
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 3910, end=5, convert_to_iter_based=True),
    dict(type='MultiStepLR', milestones=[105, 155], gamma=0.1),
]
train_cfg = dict(max_epochs=205)
auto_scale_lr = dict(base_batch_size=64)

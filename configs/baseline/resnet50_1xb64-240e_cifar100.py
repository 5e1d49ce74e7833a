_base_ = [
    '../_base_/models/baseline.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(type='mmpretrain.ResNet_CIFAR', depth=50, zero_init_residual=False),
    head=dict(in_channels=2048),
)

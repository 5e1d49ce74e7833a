_base_ = [
    '../_base_/models/baseline.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(type='mmpretrain.ResNet', depth=18, zero_init_residual=False),
    head=dict(num_classes=1000, in_channels=512),
)

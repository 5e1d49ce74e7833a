_base_ = [
    '../_base_/models/baseline.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/digits_80e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(type='WideResNet', depth=10, widen_factor=1),
    head=dict(num_classes=10, in_channels=64),
)

_base_ = [
    '../_base_/models/hsakd-teacher.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(type='CIFARResNet', depth=56),
    head=dict(num_classes=10, in_channels=64),
)

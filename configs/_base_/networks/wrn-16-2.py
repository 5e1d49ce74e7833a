_base_ = ['classifier.py']

model = dict(
    backbone=dict(type='WideResNet', depth=16, widen_factor=2),
    head=dict(in_channels=128),
)

_base_ = ['classifier.py']

model = dict(
    backbone=dict(type='WideResNet', depth=10, widen_factor=1),
    head=dict(in_channels=64),
)

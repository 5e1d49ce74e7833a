_base_ = ['classifier.py']

model = dict(
    backbone=dict(type='CIFARVGG', depth=8),
    head=dict(in_channels=512),
)

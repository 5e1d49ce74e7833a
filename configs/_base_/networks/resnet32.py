_base_ = ['classifier.py']

model = dict(
    backbone=dict(type='CIFARResNet', depth=32),
    head=dict(in_channels=64),
)

_base_ = ['classifier.py']

model = dict(
    backbone=dict(type='CIFARResNet', depth=56),
    head=dict(in_channels=64),
)

_base_ = ['classifier.py']

model = dict(
    backbone=dict(type='CIFARVGG'),
    head=dict(in_channels=512),
)

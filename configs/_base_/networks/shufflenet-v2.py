_base_ = ['classifier.py']

model = dict(
    backbone=dict(type='CIFARShuffleNetV2'),
    head=dict(in_channels=1024),
)

_base_ = ['classifier.py']

model = dict(
    backbone=dict(type='CIFARShuffleNetV1'),
    head=dict(in_channels=960),
)

_base_ = ['classifier.py']

model = dict(
    backbone=dict(type='CIFARMobileNetV2', stem_stride=2),
    head=dict(in_channels=1280),
)

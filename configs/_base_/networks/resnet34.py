_base_ = ['classifier.py']

model = dict(
    backbone=dict(type='mmpretrain.ResNet', depth=34, zero_init_residual=False),
    head=dict(in_channels=512),
)

# A network for 32x32 images, whose one map of a fourth of the image is all the pyramid is made of,
# and a detector as narrow as that network.
_base_ = ['faster-rcnn_resnet18-fpn_1xb4-6e_bccd.py']

model = dict(
    backbone=dict(_delete_=True, type='hsakd.CIFARResNet', depth=8),
    neck=dict(in_channels=[64], out_channels=64, num_outs=4),
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32]),  # cells are 10 to 100 pixels
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=[4], out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256),
    ),
)
train_cfg = dict(max_epochs=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=100),
    dict(type='MultiStepLR', milestones=[8, 11], gamma=0.1),
]

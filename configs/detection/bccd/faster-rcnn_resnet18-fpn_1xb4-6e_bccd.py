# Minutes on a CPU: fewer regions an image than for large pictures of many things.
_base_ = [
    '../../_base_/models/faster-rcnn_resnet18-fpn.py',
    '../../_base_/datasets/bccd_detection.py',
    '../../_base_/detection_runtime.py',
]

# Backbones from other images, or from none, learn whole.
model = dict(
    backbone=dict(frozen_stages=-1, norm_eval=False),
    roi_head=dict(bbox_head=dict(num_classes=3)),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=1000, max_per_img=300),
        rcnn=dict(sampler=dict(num=128)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=300)),
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=6, val_interval=3)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=100),
    dict(type='MultiStepLR', milestones=[5], gamma=0.1),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001),
)
default_hooks = dict(logger=dict(interval=10))

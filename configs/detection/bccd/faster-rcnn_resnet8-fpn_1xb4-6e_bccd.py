# Half as long, with an optimizer that gets as far in it.
_base_ = ['faster-rcnn_resnet8-fpn_1xb4-12e_bccd.py']

train_cfg = dict(max_epochs=6, val_interval=6)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=100),
    dict(type='MultiStepLR', milestones=[4, 5], gamma=0.1),
]
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=0.001, weight_decay=0.0001),
)

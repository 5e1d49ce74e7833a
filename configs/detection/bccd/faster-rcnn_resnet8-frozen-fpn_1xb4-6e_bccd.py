# What the features themselves are worth: the backbone stays as it was trained.
_base_ = ['faster-rcnn_resnet8-fpn_1xb4-6e_bccd.py']

model = dict(backbone=dict(frozen_stages=3, norm_eval=True))

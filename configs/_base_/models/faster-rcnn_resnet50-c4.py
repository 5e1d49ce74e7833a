# The last stage of the backbone is the head of each region. Bottlenecks stride as torchvision's do,
# and the images are normalized as for them: mmdet's own is for weights that came from Caffe.
_base_ = ['mmdet::_base_/models/faster-rcnn_r50-caffe-c4.py']

model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(style='pytorch'),
    roi_head=dict(shared_head=dict(style='pytorch')),
)

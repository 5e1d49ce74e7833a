_base_ = [
    '../../_base_/models/faster-rcnn_resnet18-fpn.py',
    '../../_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    '../../_base_/detection_runtime.py',
]

pretrained_backbone = 'work_dirs/hsakd-offline_resnet34_resnet18_8xb32-100e_imagenet/epoch_100.pth'

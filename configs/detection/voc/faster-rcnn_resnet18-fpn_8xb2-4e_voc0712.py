_base_ = [
    '../../_base_/models/faster-rcnn_resnet18-fpn.py',
    '../../_base_/datasets/voc0712_detection.py',
    '../../_base_/schedules/voc_4e.py',
    '../../_base_/detection_runtime.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=20)))
pretrained_backbone = 'work_dirs/hsakd-offline_resnet34_resnet18_8xb32-100e_imagenet/epoch_100.pth'

_base_ = [
    '../../_base_/models/faster-rcnn_resnet18-c4.py',
    '../../_base_/datasets/voc0712_detection_ms.py',
    '../../_base_/schedules/voc_18000i.py',
    '../../_base_/detection_runtime.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=20)))
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=3000))
log_processor = dict(by_epoch=False)
pretrained_backbone = 'work_dirs/hsakd-offline_resnet34_resnet18_8xb32-100e_imagenet/epoch_100.pth'

_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    '../../_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_2x.py',
    '../../_base_/detection_runtime.py',
]

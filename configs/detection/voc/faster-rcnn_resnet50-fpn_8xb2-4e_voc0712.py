_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    '../../_base_/datasets/voc0712_detection.py',
    '../../_base_/schedules/voc_4e.py',
    '../../_base_/detection_runtime.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=20)))

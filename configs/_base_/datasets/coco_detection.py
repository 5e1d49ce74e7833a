# data/coco/{train2017,val2017,annotations/instances_{train,val}2017.json}, as downloaded
_base_ = ['mmdet::_base_/datasets/coco_detection.py']

train_dataloader = dict(dataset=dict(type='hsakd.CocoDataset'))
val_dataloader = dict(dataset=dict(type='hsakd.CocoDataset'))
test_dataloader = val_dataloader

val_evaluator = dict(type='hsakd.CocoMetric')
test_evaluator = val_evaluator

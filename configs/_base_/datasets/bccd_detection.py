# data/BCCD/{JPEGImages,Annotations,ImageSets}: blood cells, 640x480, here at two fifths of that
_base_ = ['mmdet::_base_/datasets/voc0712.py']

classes = ('WBC', 'RBC', 'Platelets')
resize = dict(type='Resize', scale=(256, 192), keep_ratio=True)

train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        _delete_=True,
        type='hsakd.VOCDataset',
        data_root='data/BCCD/',
        ann_file='ImageSets/Main/train.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=dict(classes=classes),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            resize,
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=4,
    dataset=dict(
        _delete_=True,
        type='hsakd.VOCDataset',
        data_root='data/BCCD/',
        ann_file='ImageSets/Main/val.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=dict(classes=classes),
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            resize,
            dict(type='LoadAnnotations', with_bbox=True),
            dict(
                type='PackDetInputs',
                meta_keys=(
                    'img_id',
                    'img_path',
                    'ori_shape',
                    'img_shape',
                    'scale_factor',
                    'instances',  # the boxes, for COCO's metric
                ),
            ),
        ],
    ),
)
test_dataloader = dict(
    val_dataloader,
    dataset=dict(val_dataloader['dataset'], ann_file='ImageSets/Main/test.txt'),
)
val_evaluator = [
    dict(type='VOCMetric', eval_mode='area', prefix='voc_area'),
    dict(type='VOCMetric', eval_mode='11points', prefix='voc_11points'),
    dict(type='hsakd.CocoMetric', metric_items=['mAP', 'mAP_50'], classwise=True),
]
test_evaluator = val_evaluator

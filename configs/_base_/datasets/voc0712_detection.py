# data/VOCdevkit/{VOC2007,VOC2012}/{JPEGImages,Annotations,ImageSets}, as downloaded
_base_ = ['mmdet::_base_/datasets/voc0712.py']

train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            datasets=[
                dict(
                    type='hsakd.VOCDataset',
                    data_root='data/VOCdevkit/',
                    ann_file=f'{part}/ImageSets/Main/trainval.txt',
                    data_prefix=dict(sub_data_root=f'{part}/'),
                    filter_cfg=dict(filter_empty_gt=True, min_size=32, bbox_min_size=32),
                    pipeline=_base_.train_pipeline,
                )
                for part in ('VOC2007', 'VOC2012')
            ]
        )
    )
)
val_dataloader = dict(dataset=dict(type='hsakd.VOCDataset'))
test_dataloader = val_dataloader

# VOC2007 defines average precision by 11 points, later years by the area under the curve.
val_evaluator = [
    dict(type='VOCMetric', eval_mode='11points', prefix='voc_11points'),
    dict(type='VOCMetric', eval_mode='area', prefix='voc_area'),
]
test_evaluator = val_evaluator

_base_ = ['mmdet::_base_/schedules/schedule_1x.py']

train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=18000, val_interval=3000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=100),
    dict(type='MultiStepLR', by_epoch=False, milestones=[12000, 16000], gamma=0.1),
]

# MixSKD's own.
_base_ = ['1xb128-200e_cifar100.py']

train_dataloader = dict(batch_size=64)
param_scheduler = [
    # In every iteration of the first 5 epochs, of 782 each.
    dict(type='LinearLR', start_factor=1 / 3910, end=5, convert_to_iter_based=True),
    dict(type='MultiStepLR', milestones=[105, 155], gamma=0.1),
]
train_cfg = dict(max_epochs=205)
auto_scale_lr = dict(base_batch_size=64)

# Minutes on a CPU: a backbone for detection, see docs/detection.md
_base_ = [
    '../_base_/models/baseline.py',
    '../_base_/datasets/image_folder_64.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(type='mmpretrain.ResNet', depth=18, zero_init_residual=False),
    head=dict(num_classes=10, in_channels=512),
)
# Deep networks learn nothing at 0.05 in so few steps.
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = dict(by_epoch=False, milestones=[200, 270])
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=300, val_interval=300)
train_dataloader = dict(batch_size=32)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=100),
    logger=dict(log_metric_by_epoch=False),
)
log_processor = dict(by_epoch=False)

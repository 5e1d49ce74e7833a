# A few minutes on a CPU, to see the loss fall on real images.
_base_ = ['hsakd-teacher_resnet56_1xb64-240e_images32.py']

model = dict(backbone=dict(depth=20))
param_scheduler = dict(by_epoch=False, milestones=[200, 270])
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=300, val_interval=300)
train_dataloader = dict(batch_size=32)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=100),
    logger=dict(log_metric_by_epoch=False),
)
log_processor = dict(by_epoch=False)

# A few minutes on a CPU, to see the loss fall on real images.
_base_ = ['hsakd-offline_resnet56_resnet20_1xb64-240e_images32.py']

model = dict(
    teacher=dict(backbone=dict(depth=20)),
    student=dict(backbone=dict(depth=8)),
    teacher_ckpt='work_dirs/hsakd-teacher_resnet20_1xb32-300i_images32/iter_300.pth',
)
param_scheduler = dict(by_epoch=False, milestones=[200, 270])
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=300, val_interval=300)
train_dataloader = dict(batch_size=32)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=100),
    logger=dict(log_metric_by_epoch=False),
)
log_processor = dict(by_epoch=False)

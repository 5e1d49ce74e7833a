_base_ = [
    '../_base_/models/hsakd-offline.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    teacher=dict(
        backbone=dict(type='mmpretrain.ResNet', depth=34, zero_init_residual=False),
        head=dict(num_classes=1000, in_channels=512),
    ),
    student=dict(
        backbone=dict(type='mmpretrain.ResNet', depth=18, zero_init_residual=False),
        head=dict(num_classes=1000, in_channels=512),
    ),
    teacher_ckpt='work_dirs/hsakd-teacher_resnet34_8xb32-100e_imagenet/epoch_100.pth',
)

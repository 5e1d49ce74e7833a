_base_ = [
    '../_base_/models/hsakd-offline.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/digits_80e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    teacher=dict(
        backbone=dict(type='WideResNet', depth=16, widen_factor=2),
        head=dict(num_classes=10, in_channels=128),
    ),
    student=dict(
        backbone=dict(type='WideResNet', depth=10, widen_factor=1),
        head=dict(num_classes=10, in_channels=64),
    ),
    teacher_ckpt='work_dirs/hsakd-teacher_wrn-16-2_1xb64-80e_digits/epoch_80.pth',
)

_base_ = [
    '../_base_/models/hsakd-offline.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    teacher=dict(
        backbone=dict(type='WideResNet', depth=40, widen_factor=2),
        head=dict(in_channels=128),
    ),
    student=dict(
        backbone=dict(type='WideResNet', depth=16, widen_factor=2),
        head=dict(in_channels=128),
    ),
    teacher_ckpt='work_dirs/hsakd-teacher_wrn-40-2_1xb64-240e_cifar100/epoch_240.pth',
)

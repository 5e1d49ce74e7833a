_base_ = [
    '../_base_/models/hsakd-offline.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    teacher=dict(
        backbone=dict(type='CIFARResNet', depth=56),
        head=dict(num_classes=10, in_channels=64),
    ),
    student=dict(
        backbone=dict(type='CIFARResNet', depth=20),
        head=dict(num_classes=10, in_channels=64),
    ),
    teacher_ckpt='work_dirs/hsakd-teacher_resnet56_1xb64-240e_cifar10/epoch_240.pth',
)

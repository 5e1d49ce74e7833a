_base_ = [
    '../_base_/models/hsakd-offline.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_240e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    teacher=dict(
        backbone=dict(type='CIFARResNet', depth=32, stem_channels=32, base_channels=64),
        head=dict(in_channels=256),
    ),
    student=dict(
        backbone=dict(type='CIFARShuffleNetV2'),
        head=dict(in_channels=1024),
    ),
    teacher_ckpt='work_dirs/hsakd-teacher_resnet32x4_1xb64-240e_cifar100/epoch_240.pth',
)
optim_wrapper = dict(optimizer=dict(lr=0.01))

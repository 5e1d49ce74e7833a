_base_ = [
    '../networks/resnet8x4.py',
    '../teachers/resnet32x4.py',
    '../recipes/1xb64-240e_cifar100.py',
]

model = dict(
    student=_base_.pop('model'),
    teacher=_base_.pop('teacher'),
    teacher_ckpt='work_dirs/resnet32x4_1xb64-240e_cifar100/epoch_240.pth',
)

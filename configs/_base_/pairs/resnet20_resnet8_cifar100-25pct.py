_base_ = [
    '../networks/resnet8.py',
    '../teachers/resnet20.py',
    '../recipes/1xb64-24e_cifar100-25pct.py',
]

model = dict(
    student=_base_.pop('model'),
    teacher=_base_.pop('teacher'),
    teacher_ckpt='work_dirs/resnet20_1xb64-24e_cifar100-25pct/epoch_24.pth',
)

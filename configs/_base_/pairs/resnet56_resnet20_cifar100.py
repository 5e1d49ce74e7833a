_base_ = [
    '../networks/resnet20.py',
    '../teachers/resnet56.py',
    '../recipes/1xb64-240e_cifar100.py',
]

model = dict(
    student=_base_.pop('model'),
    teacher=_base_.pop('teacher'),
    teacher_ckpt='work_dirs/resnet56_1xb64-240e_cifar100/epoch_240.pth',
)

_base_ = [
    '../networks/resnet8.py',
    '../teachers/resnet20.py',
    '../recipes/1xb64-200i_cifar100.py',
]

model = dict(
    student=_base_.pop('model'),
    teacher=_base_.pop('teacher'),
    teacher_ckpt='work_dirs/resnet20_1xb64-200i_cifar100/iter_200.pth',
)

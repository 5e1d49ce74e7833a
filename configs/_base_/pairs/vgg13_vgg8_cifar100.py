# Of RepDistiller's table, with its recipe.
_base_ = [
    '../networks/vgg8.py',
    '../teachers/vgg13.py',
    '../recipes/1xb64-240e_cifar100.py',
]

model = dict(
    student=_base_.pop('model'),
    teacher=_base_.pop('teacher'),
    teacher_ckpt='work_dirs/vgg13_1xb64-240e_cifar100/epoch_240.pth',
)
optim_wrapper = dict(optimizer=dict(nesterov=False))

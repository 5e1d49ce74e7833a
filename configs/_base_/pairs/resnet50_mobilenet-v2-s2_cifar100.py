# Of RepDistiller's table, with its recipe.
_base_ = [
    '../networks/mobilenet-v2-s2.py',
    '../teachers/resnet50.py',
    '../recipes/1xb64-240e_cifar100.py',
]

model = dict(
    student=_base_.pop('model'),
    teacher=_base_.pop('teacher'),
    teacher_ckpt='work_dirs/resnet50_1xb64-240e_cifar100/epoch_240.pth',
)
optim_wrapper = dict(optimizer=dict(lr=0.01, nesterov=False))

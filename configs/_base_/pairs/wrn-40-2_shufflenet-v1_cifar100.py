_base_ = [
    '../networks/shufflenet-v1.py',
    '../teachers/wrn-40-2.py',
    '../recipes/1xb64-240e_cifar100.py',
]

model = dict(
    student=_base_.pop('model'),
    teacher=_base_.pop('teacher'),
    teacher_ckpt='work_dirs/wrn-40-2_1xb64-240e_cifar100/epoch_240.pth',
)
optim_wrapper = dict(optimizer=dict(lr=0.01))

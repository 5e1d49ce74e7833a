_base_ = ['../baseline/wrn-16-2_1xb128-200e_cifar100.py']

# The teacher is the same network, trained before.
model = dict(
    _delete_=True,
    type='KD',
    student=_base_.model,
    teacher=_base_.model,
    teacher_ckpt='work_dirs/wrn-16-2_1xb128-200e_cifar100/epoch_200.pth',
    kd_loss=dict(type='KLDivergence', temperature=6.0),
    loss_weights=dict(loss_cls=0.05, loss_kd=0.475),  # 0.95 * 50 / 100 classes
)

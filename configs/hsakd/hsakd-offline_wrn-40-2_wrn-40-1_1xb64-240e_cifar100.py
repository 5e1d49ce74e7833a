_base_ = ['../_base_/pairs/wrn-40-2_wrn-40-1_cifar100.py', '../_base_/models/hsakd-offline.py']

model = dict(
    _base_.pop('hsakd_offline'),
    teacher_ckpt='work_dirs/hsakd-teacher_wrn-40-2_1xb64-240e_cifar100/epoch_240.pth',
)

_base_ = ['../_base_/pairs/resnet56_resnet20_cifar10.py', '../_base_/models/hsakd-offline.py']

model = dict(
    _base_.pop('hsakd_offline'),
    teacher_ckpt='work_dirs/hsakd-teacher_resnet56_1xb64-240e_cifar10/epoch_240.pth',
)

_base_ = ['../_base_/pairs/resnet20_resnet8_cifar100-25pct.py', '../_base_/models/hsakd-offline.py']

model = dict(
    _base_.pop('hsakd_offline'),
    teacher_ckpt='work_dirs/hsakd-teacher_resnet20_1xb64-24e_cifar100-25pct/epoch_24.pth',
)

_base_ = ['../_base_/pairs/resnet50_mobilenet-v2_cifar100.py', '../_base_/models/hsakd-offline.py']

model = dict(
    _base_.pop('hsakd_offline'),
    teacher_ckpt='work_dirs/hsakd-teacher_resnet50_1xb64-240e_cifar100/epoch_240.pth',
)

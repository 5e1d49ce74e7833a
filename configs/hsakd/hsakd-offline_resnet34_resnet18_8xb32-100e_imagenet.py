_base_ = ['../_base_/pairs/resnet34_resnet18_imagenet.py', '../_base_/models/hsakd-offline.py']

model = dict(
    _base_.pop('hsakd_offline'),
    teacher_ckpt='work_dirs/hsakd-teacher_resnet34_8xb32-100e_imagenet/epoch_100.pth',
)

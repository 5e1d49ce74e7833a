_base_ = ['../_base_/pairs/resnet34_resnet18_images64.py', '../_base_/models/hsakd-offline.py']

model = dict(
    _base_.pop('hsakd_offline'),
    teacher_ckpt='work_dirs/hsakd-teacher_resnet34_1xb32-300i_images64/iter_300.pth',
)

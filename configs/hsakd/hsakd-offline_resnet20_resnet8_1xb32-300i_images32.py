_base_ = ['../_base_/pairs/resnet20_resnet8_images32.py', '../_base_/models/hsakd-offline.py']

model = dict(
    _base_.pop('hsakd_offline'),
    teacher_ckpt='work_dirs/hsakd-teacher_resnet20_1xb32-300i_images32/iter_300.pth',
)

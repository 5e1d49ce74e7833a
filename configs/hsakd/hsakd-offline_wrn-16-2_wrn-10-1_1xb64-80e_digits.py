_base_ = ['../_base_/pairs/wrn-16-2_wrn-10-1_digits.py', '../_base_/models/hsakd-offline.py']

model = dict(
    _base_.pop('hsakd_offline'),
    teacher_ckpt='work_dirs/hsakd-teacher_wrn-16-2_1xb64-80e_digits/epoch_80.pth',
)

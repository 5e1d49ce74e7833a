# From the joint teacher, as HSAKD.
_base_ = ['../few_shot/kd_resnet20_resnet8_1xb64-10e_cifar100-25pct.py']

model = dict(
    teacher=dict(branches=dict(type='AuxiliaryBranches'), transforms=dict(type='Rotation')),
    teacher_ckpt='work_dirs/hsakd-teacher_resnet20_1xb64-10e_cifar100-25pct/epoch_10.pth',
)

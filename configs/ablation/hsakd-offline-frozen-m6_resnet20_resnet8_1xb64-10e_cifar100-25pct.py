# The six orders of the color channels instead of four rotations.
_base_ = ['../few_shot/hsakd-offline-frozen_resnet20_resnet8_1xb64-10e_cifar100-25pct.py']

transforms = dict(_delete_=True, type='ColorPermutation')
model = dict(
    student=dict(transforms=transforms),
    teacher=dict(transforms=transforms),
    teacher_ckpt='work_dirs/hsakd-teacher-frozen-m6_resnet20_1xb64-10e_cifar100-25pct/epoch_10.pth',
)

# Four rotations, each in six orders of the color channels.
_base_ = ['../few_shot/hsakd-offline-frozen_resnet20_resnet8_1xb64-10e_cifar100-25pct.py']

transforms = dict(
    _delete_=True,
    type='CombinedTransforms',
    first=dict(type='Rotation'),
    second=dict(type='ColorPermutation'),
)
model = dict(
    student=dict(transforms=transforms),
    teacher=dict(transforms=transforms),
    teacher_ckpt='work_dirs/hsakd-teacher-frozen-m24_resnet20_1xb64-10e_cifar100-25pct/epoch_10.pth',
)

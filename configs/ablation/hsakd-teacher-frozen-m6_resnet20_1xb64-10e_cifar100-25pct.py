# The six orders of the color channels instead of four rotations.
_base_ = ['../few_shot/hsakd-teacher-frozen_resnet20_1xb64-10e_cifar100-25pct.py']

model = dict(transforms=dict(_delete_=True, type='ColorPermutation'))

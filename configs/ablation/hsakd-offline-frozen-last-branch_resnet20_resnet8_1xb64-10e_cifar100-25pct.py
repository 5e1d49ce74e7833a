# One branch of three, after the last stage.
_base_ = ['../few_shot/hsakd-offline-frozen_resnet20_resnet8_1xb64-10e_cifar100-25pct.py']

model = dict(student=dict(branches=dict(stages=[2])), branch_pairs=[(0, 2)])

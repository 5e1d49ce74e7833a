_base_ = ['../few_shot/hsakd-offline-frozen_resnet20_resnet8_1xb64-10e_cifar100-25pct.py']

model = dict(kd_loss=dict(temperature=6.0))

# Without the divergences of the branches: the head alone learns, on the four rotations.
_base_ = ['../few_shot/hsakd-offline-frozen_resnet20_resnet8_1xb64-10e_cifar100-25pct.py']

model = dict(loss_weights=dict(loss_kd_aux=0.0))

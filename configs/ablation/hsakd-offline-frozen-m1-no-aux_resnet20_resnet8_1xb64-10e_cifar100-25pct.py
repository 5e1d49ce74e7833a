# Neither rotations nor the KL of the branches: the head alone learns, on images as they are.
_base_ = ['hsakd-offline-frozen-m1_resnet20_resnet8_1xb64-10e_cifar100-25pct.py']

model = dict(loss_weights=dict(loss_kd_aux=0.0))

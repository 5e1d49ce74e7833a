# Without the divergence of the heads.
_base_ = ['../few_shot/hsakd-offline_resnet20_resnet8_1xb64-10e_cifar100-25pct.py']

model = dict(loss_weights=dict(loss_kd_logits=0.0))

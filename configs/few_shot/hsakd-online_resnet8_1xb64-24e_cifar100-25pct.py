_base_ = ['resnet8_1xb64-24e_cifar100-25pct.py']

model = dict(
    type='HSAKDOnline',
    networks=2 * [dict(_base_.pop('model'), branches=dict(type='AuxiliaryBranches'))],
    kd_loss=dict(type='KLDivergence', temperature=3.0),
)

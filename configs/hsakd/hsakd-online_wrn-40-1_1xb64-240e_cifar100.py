_base_ = ['../baseline/wrn-40-1_1xb64-240e_cifar100.py']

model = dict(
    type='HSAKDOnline',
    networks=2 * [dict(_base_.pop('model'), branches=dict(type='AuxiliaryBranches'))],
    kd_loss=dict(type='KLDivergence', temperature=3.0),
)

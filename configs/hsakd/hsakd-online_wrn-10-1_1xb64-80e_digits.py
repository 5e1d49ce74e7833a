_base_ = ['../baseline/wrn-10-1_1xb64-80e_digits.py']

model = dict(
    type='HSAKDOnline',
    networks=2 * [dict(_base_.pop('model'), branches=dict(type='AuxiliaryBranches'))],
    kd_loss=dict(type='KLDivergence', temperature=3.0),
)

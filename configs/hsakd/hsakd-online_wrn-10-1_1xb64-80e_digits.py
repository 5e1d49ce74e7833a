_base_ = ['../baseline/wrn-10-1_1xb64-80e_digits.py']

model = dict(
    _delete_=True,
    type='HSAKDOnline',
    networks=2 * [dict(_base_.model, branches=dict(type='AuxiliaryBranches'))],
    kd_loss=dict(type='KLDivergence', temperature=3.0),
)

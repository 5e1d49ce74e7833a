_base_ = ['../baseline/resnet8_1xb32-300i_images32.py']

model = dict(
    type='HSAKDOnline',
    networks=2 * [dict(_base_.pop('model'), branches=dict(type='AuxiliaryBranches'))],
    kd_loss=dict(type='KLDivergence', temperature=3.0),
)

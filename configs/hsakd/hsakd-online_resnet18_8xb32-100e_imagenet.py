_base_ = ['../baseline/resnet18_8xb32-100e_imagenet.py']

model = dict(
    type='HSAKDOnline',
    networks=2 * [dict(_base_.pop('model'), branches=dict(type='AuxiliaryBranches'))],
    kd_loss=dict(type='KLDivergence', temperature=3.0),
)

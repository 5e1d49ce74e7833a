# Networks of two architectures that teach each other.
_base_ = ['../_base_/pairs/wrn-40-2_wrn-16-2_cifar100.py']

model = _base_.pop('model')
model = dict(
    type='HSAKDOnline',
    networks=[
        dict(model[k], branches=dict(type='AuxiliaryBranches')) for k in ('teacher', 'student')
    ],
    kd_loss=dict(type='KLDivergence', temperature=3.0),
)

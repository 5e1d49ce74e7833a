# Networks of two architectures that teach each other.
_base_ = ['../baseline/wrn-40-2_1xb64-240e_cifar100.py']

branches = dict(type='AuxiliaryBranches')
model = dict(
    _delete_=True,
    type='HSAKDOnline',
    networks=[
        dict(_base_.model, branches=branches),
        dict(
            _base_.model,
            backbone=dict(type='WideResNet', depth=16, widen_factor=2),
            branches=branches,
        ),
    ],
    kd_loss=dict(type='KLDivergence', temperature=3.0),
)

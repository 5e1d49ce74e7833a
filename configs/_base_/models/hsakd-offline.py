# What HSSAKD adds to a pair: `model = dict(_base_.pop('hsakd_offline'), teacher_ckpt=...)`
hsakd_offline = dict(
    type='HSAKDOffline',
    teacher=dict(branches=dict(type='AuxiliaryBranches'), transforms=dict(type='Rotation')),
    student=dict(branches=dict(type='AuxiliaryBranches'), transforms=dict(type='Rotation')),
    kd_loss=dict(type='KLDivergence', temperature=3.0),
)

hsakd_teacher = dict(
    type='HSAKDTeacher',
    branches=dict(type='AuxiliaryBranches'),
    transforms=dict(type='Rotation'),
)

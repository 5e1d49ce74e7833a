_base_ = ['baseline.py']

model = dict(
    type='HSAKDTeacher',
    branches=dict(type='AuxiliaryBranches'),
    transforms=dict(type='Rotation'),
)

model = dict(
    type='HSAKDOffline',
    teacher=dict(
        type='BranchedClassifier',
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.LinearClsHead',
            num_classes=100,
            loss=dict(type='mmpretrain.CrossEntropyLoss'),
        ),
        branches=dict(type='AuxiliaryBranches'),
        transforms=dict(type='Rotation'),
    ),
    student=dict(
        type='BranchedClassifier',
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.LinearClsHead',
            num_classes=100,
            loss=dict(type='mmpretrain.CrossEntropyLoss'),
        ),
        branches=dict(type='AuxiliaryBranches'),
        transforms=dict(type='Rotation'),
    ),
    kd_loss=dict(type='KLDivergence', temperature=3.0),
)

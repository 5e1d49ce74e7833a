model = dict(
    type='BranchedClassifier',
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
    ),
)

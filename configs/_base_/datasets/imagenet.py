# data/imagenet/{train,val}/CLASS/*.JPEG, or data/imagenet/{train,val}/ with meta/{train,val}.txt
data_preprocessor = dict(
    mean=[0.485 * 255, 0.456 * 255, 0.406 * 255],
    std=[0.229 * 255, 0.224 * 255, 0.225 * 255],
    to_rgb=True,  # files are read as BGR
)

# Pillow's resizing is torchvision's, which the networks of the paper were trained and tested with.
train_dataloader = dict(
    batch_size=32,
    num_workers=5,
    dataset=dict(
        _scope_='hsakd',  # for tools of mmpretrain, which look for types there
        type='ImageNet',
        data_root='data/imagenet',
        split='train',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='mmpretrain.RandomResizedCrop', scale=224, backend='pillow'),
            dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=5,
    dataset=dict(
        _scope_='hsakd',  # for tools of mmpretrain, which look for types there
        type='ImageNet',
        data_root='data/imagenet',
        split='val',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='mmpretrain.ResizeEdge', scale=256, edge='short', backend='pillow'),
            dict(type='mmpretrain.CenterCrop', crop_size=224),
            dict(type='mmpretrain.PackInputs'),
        ],
        test_mode=True,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = [
    dict(type='mmpretrain.Accuracy', topk=(1, 5)),
    dict(type='BranchAccuracy'),
    dict(type='NetworkAccuracy'),
]
test_dataloader = val_dataloader
test_evaluator = val_evaluator

# Tiny-ImageNet's 64x64 images at 32x32, for linear evaluation. The backbone was trained on
# CIFAR-100, whose normalization it keeps. Pillow's filter averages where an image becomes smaller.
_base_ = ['cifar100.py']

data_preprocessor = dict(to_rgb=True)  # files are read as BGR

in_memory = False

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        _scope_='hsakd',
        type='TinyImageNet',
        data_root='data/tiny-imagenet-200',
        split='train',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='mmpretrain.RandomResizedCrop', scale=32, backend='pillow'),
            dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        _scope_='hsakd',
        type='TinyImageNet',
        data_root='data/tiny-imagenet-200',
        split='val',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='mmpretrain.Resize', scale=(32, 32), backend='pillow'),
            dict(type='mmpretrain.PackInputs'),
        ],
        test_mode=True,
    )
)
test_dataloader = val_dataloader

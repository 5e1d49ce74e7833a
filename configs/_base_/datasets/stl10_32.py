# STL-10's 96x96 images at 32x32, for linear evaluation. The backbone was trained on CIFAR-100,
# whose normalization it keeps. Pillow's filter averages where an image becomes smaller.
_base_ = ['cifar100.py']

data_preprocessor = dict(to_rgb=False)  # its files hold RGB

in_memory = False

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        _scope_='hsakd',
        type='STL10',
        data_root='data/stl10',
        split='train',
        pipeline=[
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
        type='STL10',
        data_root='data/stl10',
        split='test',
        pipeline=[
            dict(type='mmpretrain.Resize', scale=(32, 32), backend='pillow'),
            dict(type='mmpretrain.PackInputs'),
        ],
        test_mode=True,
    )
)
test_dataloader = val_dataloader

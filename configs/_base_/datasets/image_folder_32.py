# Images in folders by class, made 32x32: data/images/{train,test}/CLASS/*.jpg
# Pillow averages where an image becomes smaller, OpenCV does not.
_base_ = ['cifar100.py']

data_preprocessor = dict(to_rgb=True)  # files are read as BGR

in_memory = False

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        _scope_='hsakd',
        type='ImageFolder',
        data_root='data/images/train',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='mmpretrain.Resize', scale=(32, 32), backend='pillow'),
            dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4),
            dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        _scope_='hsakd',
        type='ImageFolder',
        data_root='data/images/test',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='mmpretrain.Resize', scale=(32, 32), backend='pillow'),
            dict(type='mmpretrain.PackInputs'),
        ],
        test_mode=True,
    )
)
test_dataloader = val_dataloader

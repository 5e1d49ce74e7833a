# Images in folders by class, made 64x64: data/images/{train,test}/CLASS/*.jpg
_base_ = ['image_folder_32.py']

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImage'),
            dict(type='mmpretrain.Resize', scale=(64, 64), backend='pillow'),
            dict(type='mmpretrain.RandomCrop', crop_size=64, padding=8),
            dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='mmpretrain.PackInputs'),
        ],
    )
)
val_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImage'),
            dict(type='mmpretrain.Resize', scale=(64, 64), backend='pillow'),
            dict(type='mmpretrain.PackInputs'),
        ],
    )
)
test_dataloader = val_dataloader

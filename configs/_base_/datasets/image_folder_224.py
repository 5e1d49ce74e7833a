# Images in folders by class, cut to 224x224 as ImageNet's and normalized by its statistics, which
# networks of torchvision and mmpretrain were trained with: data/images/{train,test}/CLASS/*.jpg
_base_ = ['imagenet.py']

train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        _delete_=True,
        _scope_='hsakd',
        type='ImageFolder',
        data_root='data/images/train',
        pipeline=_base_.train_dataloader.dataset.pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        _scope_='hsakd',
        type='ImageFolder',
        data_root='data/images/test',
        pipeline=_base_.val_dataloader.dataset.pipeline,
        test_mode=True,
    )
)
test_dataloader = val_dataloader

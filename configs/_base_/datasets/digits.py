# scikit-learn's 8x8 digits; they need no download. 200 scans to train on, 1,597 to test on: few
# enough that a student has something to gain.
_base_ = ['cifar100.py']

data_preprocessor = dict(mean=[75.0] * 3, std=[90.0] * 3)

in_memory = False

train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True,
        _scope_='hsakd',
        type='Digits',
        split='train',
        train_size=200,
        pipeline=[dict(type='mmpretrain.PackInputs')],
    ),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True,
        _scope_='hsakd',
        type='Digits',
        split='test',
        train_size=200,
        pipeline=[dict(type='mmpretrain.PackInputs')],
        test_mode=True,
    ),
)
test_dataloader = val_dataloader

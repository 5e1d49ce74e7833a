data_preprocessor = dict(
    mean=[0.5071 * 255, 0.4867 * 255, 0.4408 * 255],
    std=[0.2675 * 255, 0.2565 * 255, 0.2761 * 255],
    to_rgb=False,  # the archives hold RGB
)

# Of training: one tensor on the device, without workers. mmengine's own runner reads no such key.
in_memory = True

train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    dataset=dict(
        _scope_='hsakd',  # for tools of mmpretrain, which look for types there
        type='CIFAR100',
        data_root='data/cifar100',
        split='train',
        pipeline=[
            dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4),
            dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=2,
    dataset=dict(
        _scope_='hsakd',
        type='CIFAR100',
        data_root='data/cifar100',
        split='test',
        pipeline=[dict(type='mmpretrain.PackInputs')],
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

# scikit-learn's 8x8 digits; they need no download. 200 scans to train on, 1,597 to test on: few
# enough that a student has something to gain.
data_preprocessor = dict(mean=[75.0] * 3, std=[90.0] * 3, to_rgb=False)

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    dataset=dict(
        type='Digits',
        split='train',
        train_size=200,
        pipeline=[dict(type='mmpretrain.PackInputs')],
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=0,
    dataset=dict(
        type='Digits',
        split='test',
        train_size=200,
        pipeline=[dict(type='mmpretrain.PackInputs')],
        test_mode=True,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = [dict(type='mmpretrain.Accuracy', topk=(1, 5)), dict(type='BranchAccuracy')]
test_dataloader = val_dataloader
test_evaluator = val_evaluator

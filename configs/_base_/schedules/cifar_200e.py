_base_ = ['cifar_300e.py']

param_scheduler = [
    # In every iteration of the first 5 epochs, of 391 each.
    dict(type='LinearLR', start_factor=1 / 1955, end=5, convert_to_iter_based=True),
    dict(type='MultiStepLR', milestones=[105, 155], gamma=0.1),
]
train_cfg = dict(max_epochs=200)

_base_ = ['cifar_240e.py']

param_scheduler = dict(milestones=[48, 64, 75])
train_cfg = dict(max_epochs=80, val_interval=4)

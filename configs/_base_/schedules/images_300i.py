_base_ = ['cifar_240e.py']

param_scheduler = dict(by_epoch=False, milestones=[200, 270])
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=300, val_interval=300)

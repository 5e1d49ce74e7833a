# Between 24 epochs and the 216 that take as long as HSAKD's student of 24.
_base_ = ['resnet8_1xb64-24e_cifar100-25pct.py']

param_scheduler = dict(milestones=[45, 54, 63])
train_cfg = dict(max_epochs=72, val_interval=24)

# As long as HSAKD's student takes in 24 epochs: a step of it takes 13 times as long.
_base_ = ['resnet8_1xb64-24e_cifar100-25pct.py']

param_scheduler = dict(milestones=[200, 240, 280])
train_cfg = dict(max_epochs=320, val_interval=80)

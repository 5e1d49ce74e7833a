# As long as HSAKD's student takes in 24 epochs: a step of it takes 7 times as long.
_base_ = ['kd_resnet20_resnet8_1xb64-24e_cifar100-25pct.py']

param_scheduler = dict(milestones=[105, 126, 147])
train_cfg = dict(max_epochs=168, val_interval=56)

# As long as HSAKD's student takes in 24 epochs: a step of it takes 9 times as long.
_base_ = ['resnet8_1xb64-24e_cifar100-25pct.py']

param_scheduler = dict(milestones=[135, 162, 189])
train_cfg = dict(max_epochs=216, val_interval=72)

_base_ = ['hsakd-teacher_resnet20_1xb64-24e_cifar100-25pct.py']

param_scheduler = dict(milestones=[6, 8])
train_cfg = dict(max_epochs=10, val_interval=10)

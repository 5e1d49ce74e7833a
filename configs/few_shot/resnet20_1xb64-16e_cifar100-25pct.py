_base_ = ['resnet20_1xb64-24e_cifar100-25pct.py']

param_scheduler = dict(milestones=[10, 12, 14])
train_cfg = dict(max_epochs=16, val_interval=16)
train_dataloader = dict(drop_last=True)  # a smaller last batch is compiled anew

_base_ = ['hsakd-teacher-frozen_resnet20_1xb64-10e_cifar100-25pct.py']

model = dict(backbone_ckpt='work_dirs/resnet20_1xb64-16e_cifar100-25pct/epoch_16.pth')
param_scheduler = dict(milestones=[2])
train_cfg = dict(max_epochs=3, val_interval=3)
train_dataloader = dict(drop_last=True)  # a smaller last batch is compiled anew

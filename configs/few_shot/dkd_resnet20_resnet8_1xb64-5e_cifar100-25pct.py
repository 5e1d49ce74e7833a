_base_ = ['dkd_resnet20_resnet8_1xb64-10e_cifar100-25pct.py']

model = dict(teacher_ckpt='work_dirs/resnet20_1xb64-16e_cifar100-25pct/epoch_16.pth')
param_scheduler = dict(milestones=[3, 4])
train_cfg = dict(max_epochs=5, val_interval=5)
train_dataloader = dict(drop_last=True)  # a smaller last batch is compiled anew

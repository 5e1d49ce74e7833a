_base_ = ['hsakd-offline_resnet20_resnet8_1xb64-24e_cifar100-25pct.py']

model = dict(teacher_ckpt='work_dirs/hsakd-teacher_resnet20_1xb64-10e_cifar100-25pct/epoch_10.pth')
param_scheduler = dict(milestones=[6, 8])
train_cfg = dict(max_epochs=10, val_interval=10)

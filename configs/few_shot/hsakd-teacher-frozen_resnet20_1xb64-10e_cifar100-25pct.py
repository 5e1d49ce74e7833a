_base_ = ['hsakd-teacher_resnet20_1xb64-24e_cifar100-25pct.py']

model = dict(frozen=True, backbone_ckpt='work_dirs/resnet20_1xb64-24e_cifar100-25pct/epoch_24.pth')
param_scheduler = dict(milestones=[3, 6, 9])
train_cfg = dict(max_epochs=10, val_interval=10)

_base_ = ['hsakd-teacher_vgg13_1xb64-240e_cifar100.py']

model = dict(frozen=True, backbone_ckpt='work_dirs/vgg13_1xb64-240e_cifar100/epoch_240.pth')
param_scheduler = dict(milestones=[30, 60, 90])
train_cfg = dict(max_epochs=100)

_base_ = ['hsakd-teacher_resnet56_1xb64-240e_images32.py']

model = dict(frozen=True, backbone_ckpt='work_dirs/resnet56_1xb64-240e_images32/epoch_240.pth')
param_scheduler = dict(milestones=[30, 60, 90])
train_cfg = dict(max_epochs=100)

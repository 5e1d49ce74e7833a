_base_ = ['hsakd-teacher_resnet34_1xb64-100e_images224.py']

model = dict(frozen=True, backbone_ckpt='work_dirs/resnet34_1xb64-100e_images224/epoch_100.pth')

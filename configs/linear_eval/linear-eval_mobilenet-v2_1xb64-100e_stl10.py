_base_ = [
    '../_base_/models/linear-eval.py',
    '../_base_/datasets/stl10_32.py',
    '../_base_/schedules/linear_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(type='CIFARMobileNetV2'),
    head=dict(num_classes=10, in_channels=1280),
    backbone_ckpt='work_dirs/hsakd-offline_vgg13_mobilenet-v2_1xb64-240e_cifar100/epoch_240.pth',
)

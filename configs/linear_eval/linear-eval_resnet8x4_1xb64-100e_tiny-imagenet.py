_base_ = [
    '../_base_/models/linear-eval.py',
    '../_base_/datasets/tiny_imagenet_32.py',
    '../_base_/schedules/linear_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(type='CIFARResNet', depth=8, stem_channels=32, base_channels=64),
    head=dict(num_classes=200, in_channels=256),
    backbone_ckpt='work_dirs/hsakd-offline_resnet32x4_resnet8x4_1xb64-240e_cifar100/epoch_240.pth',
)

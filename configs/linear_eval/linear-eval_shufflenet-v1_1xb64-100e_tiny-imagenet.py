_base_ = [
    '../_base_/models/linear-eval.py',
    '../_base_/datasets/tiny_imagenet_32.py',
    '../_base_/schedules/linear_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(type='CIFARShuffleNetV1'),
    head=dict(num_classes=200, in_channels=960),
    backbone_ckpt='work_dirs/hsakd-offline_wrn-40-2_shufflenet-v1_1xb64-240e_cifar100'
    '/epoch_240.pth',
)

_base_ = ['../_base_/networks/resnet20.py', '../_base_/recipes/1xb64-100e_tiny-imagenet.py']

model = dict(
    type='LinearEvaluation',
    head=dict(num_classes=200),
    backbone_ckpt='work_dirs/hsakd-offline_resnet56_resnet20_1xb64-240e_cifar100/epoch_240.pth',
)

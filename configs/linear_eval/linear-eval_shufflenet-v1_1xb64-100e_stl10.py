_base_ = ['../_base_/networks/shufflenet-v1.py', '../_base_/recipes/1xb64-100e_stl10.py']

model = dict(
    type='LinearEvaluation',
    head=dict(num_classes=10),
    backbone_ckpt='work_dirs/hsakd-offline_wrn-40-2_shufflenet-v1_1xb64-240e_cifar100'
    '/epoch_240.pth',
)

# A new head on the student of the 300 iterations, in a few minutes on a CPU.
_base_ = ['../_base_/networks/resnet8.py', '../_base_/recipes/1xb64-5e_images32.py']

model = dict(
    type='LinearEvaluation',
    head=dict(num_classes=None),
    backbone_ckpt='work_dirs/hsakd-offline_resnet20_resnet8_1xb32-300i_images32/iter_300.pth',
)

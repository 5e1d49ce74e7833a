# A new head on the student of the 300 iterations, in a few minutes on a CPU.
_base_ = [
    '../_base_/models/linear-eval.py',
    '../_base_/datasets/image_folder_32.py',
    '../_base_/schedules/linear_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(type='CIFARResNet', depth=8),
    head=dict(num_classes=10, in_channels=64),
    backbone_ckpt='work_dirs/hsakd-offline_resnet20_resnet8_1xb32-300i_images32/iter_300.pth',
)
param_scheduler = dict(milestones=[3, 4])
train_cfg = dict(max_epochs=5, val_interval=5)

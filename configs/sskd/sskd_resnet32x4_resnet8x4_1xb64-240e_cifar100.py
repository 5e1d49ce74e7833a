_base_ = [
    '../_base_/pairs/resnet32x4_resnet8x4_cifar100.py',
    '../_base_/datasets/cifar100_unflipped.py',
]

model = dict(
    type='SSKD', teacher_ckpt='work_dirs/sskd-head_resnet32x4_1xb64-60e_cifar100/epoch_60.pth'
)
train_dataloader = dict(dataset=dict(pipeline=_base_.pop('unflipped')))

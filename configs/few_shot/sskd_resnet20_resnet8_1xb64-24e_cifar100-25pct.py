_base_ = [
    '../_base_/pairs/resnet20_resnet8_cifar100-25pct.py',
    '../_base_/datasets/cifar100_unflipped.py',
]

model = dict(
    type='SSKD', teacher_ckpt='work_dirs/sskd-head_resnet20_1xb64-6e_cifar100-25pct/epoch_6.pth'
)
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=_base_.pop('unflipped'))))

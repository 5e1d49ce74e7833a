_base_ = ['resnet20_1xb64-24e_cifar100-25pct.py', '../_base_/datasets/cifar100_unflipped.py']

model = dict(
    type='SSKDHead',
    student=_base_.pop('model'),
    student_ckpt='work_dirs/resnet20_1xb64-24e_cifar100-25pct/epoch_24.pth',
)
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=_base_.pop('unflipped'))))
param_scheduler = dict(milestones=[3, 5])
train_cfg = dict(max_epochs=6, val_interval=6)

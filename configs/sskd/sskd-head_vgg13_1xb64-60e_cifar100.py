_base_ = [
    '../baseline/vgg13_1xb64-240e_cifar100.py',
    '../_base_/datasets/cifar100_unflipped.py',
]

model = dict(
    type='SSKDHead',
    student=_base_.pop('model'),
    student_ckpt='work_dirs/vgg13_1xb64-240e_cifar100/epoch_240.pth',
)
train_dataloader = dict(dataset=dict(pipeline=_base_.pop('unflipped')))
param_scheduler = dict(milestones=[30, 45])
train_cfg = dict(max_epochs=60)

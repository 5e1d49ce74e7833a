_base_ = ['../baseline/resnet32x4_1xb64-240e_cifar100.py']

model = dict(
    type='FTParaphraser',
    student=_base_.pop('model'),
    student_ckpt='work_dirs/resnet32x4_1xb64-240e_cifar100/epoch_240.pth',
)
optim_wrapper = dict(optimizer=dict(lr=0.01, nesterov=False))
param_scheduler = dict(milestones=[])
train_cfg = dict(max_epochs=30)

_base_ = ['../_base_/pairs/resnet56_resnet20_cifar100.py']

model = dict(
    type='FT', teacher_ckpt='work_dirs/ft-paraphraser_resnet56_1xb64-30e_cifar100/epoch_30.pth'
)
optim_wrapper = dict(optimizer=dict(nesterov=False))

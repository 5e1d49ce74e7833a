_base_ = ['../_base_/pairs/resnet32x4_resnet8x4_cifar100.py']

model = dict(
    type='FT', teacher_ckpt='work_dirs/ft-paraphraser_resnet32x4_1xb64-30e_cifar100/epoch_30.pth'
)
optim_wrapper = dict(optimizer=dict(nesterov=False))

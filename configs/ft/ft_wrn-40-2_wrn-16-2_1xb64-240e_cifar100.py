_base_ = ['../_base_/pairs/wrn-40-2_wrn-16-2_cifar100.py']

model = dict(
    type='FT', teacher_ckpt='work_dirs/ft-paraphraser_wrn-40-2_1xb64-30e_cifar100/epoch_30.pth'
)
optim_wrapper = dict(optimizer=dict(nesterov=False))

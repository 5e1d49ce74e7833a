_base_ = ['../_base_/pairs/wrn-40-2_wrn-40-1_cifar100.py']

model = dict(
    _delete_=True,
    type='KDCL',
    networks=[_base_.model.teacher, _base_.model.student],
)
optim_wrapper = dict(optimizer=dict(nesterov=False))

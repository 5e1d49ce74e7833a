_base_ = ['../_base_/pairs/vgg13_vgg8_cifar100.py']

model = dict(
    _delete_=True,
    type='KDCL',
    networks=[_base_.model.teacher, _base_.model.student],
)

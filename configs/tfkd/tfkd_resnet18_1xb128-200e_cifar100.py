_base_ = ['../baseline/resnet18_1xb128-200e_cifar100.py']

model = dict(
    type='TfKD',
    student=_base_.pop('model'),
    correct=0.9,
    form='library',
    loss_weights=dict(loss_cls=1.0, loss_kd=1.0),
)

_base_ = ['../_base_/pairs/wrn-40-2_wrn-16-2_cifar100.py']

# By labels alone, from the student that the first phase left.
model = dict(type='KD', loss_weights=dict(loss_cls=1.0, loss_kd=0.0))
load_from = 'work_dirs/ab-hints_wrn-40-2_wrn-16-2_1xb64-30e_cifar100/epoch_30.pth'

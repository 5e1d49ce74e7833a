_base_ = ['../_base_/pairs/wrn-40-2_wrn-16-2_cifar100.py']

model = dict(type='DKD', loss_weights=dict(loss_rest=dict(weight=6.0, warmup_epochs=20)))
optim_wrapper = dict(optimizer=dict(nesterov=False))

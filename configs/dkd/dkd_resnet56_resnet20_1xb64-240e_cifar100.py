_base_ = ['../_base_/pairs/resnet56_resnet20_cifar100.py']

model = dict(type='DKD', loss_weights=dict(loss_rest=dict(weight=2.0, warmup_epochs=20)))
optim_wrapper = dict(optimizer=dict(nesterov=False))

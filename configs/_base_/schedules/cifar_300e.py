_base_ = ['cifar_240e.py']

optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max=300)
train_cfg = dict(max_epochs=300)
auto_scale_lr = dict(base_batch_size=128)

_base_ = ['../baseline/resnet18_8xb32-100e_imagenet.py']

model = dict(type='MCLMemory', networks=2 * [_base_.pop('model')])
optim_wrapper = dict(optimizer=dict(nesterov=False))
param_scheduler = dict(milestones=[30, 60])
train_cfg = dict(max_epochs=90)

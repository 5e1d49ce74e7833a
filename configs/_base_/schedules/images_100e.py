# That of ImageNet, for batches of 64.
_base_ = ['imagenet_100e.py']

optim_wrapper = dict(optimizer=dict(lr=0.025))
auto_scale_lr = dict(base_batch_size=64)

# One epoch with a small learning rate, of which the authors' logs are known.
_base_ = ['hsakd-online_resnet56_1xb64-240e_cifar100.py']

optim_wrapper = dict(optimizer=dict(lr=0.01))
train_cfg = dict(max_epochs=1)

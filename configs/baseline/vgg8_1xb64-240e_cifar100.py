_base_ = ['../_base_/networks/vgg8.py', '../_base_/recipes/1xb64-240e_cifar100.py']

optim_wrapper = dict(optimizer=dict(nesterov=False))

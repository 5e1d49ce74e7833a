_base_ = ['../_base_/networks/mobilenet-v2-s2.py', '../_base_/recipes/1xb64-240e_cifar100.py']

optim_wrapper = dict(optimizer=dict(lr=0.01, nesterov=False))

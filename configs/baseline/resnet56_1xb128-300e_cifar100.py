_base_ = ['../_base_/networks/resnet56.py', '../_base_/recipes/1xb128-300e_cifar100.py']

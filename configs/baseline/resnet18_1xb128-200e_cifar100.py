_base_ = ['../_base_/networks/resnet18-cifar.py', '../_base_/recipes/1xb128-200e_cifar100.py']

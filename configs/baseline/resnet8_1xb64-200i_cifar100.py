_base_ = ['../_base_/networks/resnet8.py', '../_base_/recipes/1xb64-200i_cifar100.py']

_base_ = ['../_base_/networks/wrn-40-2.py', '../_base_/recipes/1xb64-240e_cifar100.py']

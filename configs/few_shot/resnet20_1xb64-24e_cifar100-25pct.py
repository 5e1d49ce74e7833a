_base_ = ['../_base_/networks/resnet20.py', '../_base_/recipes/1xb64-24e_cifar100-25pct.py']

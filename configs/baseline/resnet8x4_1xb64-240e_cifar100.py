_base_ = ['../_base_/networks/resnet8x4.py', '../_base_/recipes/1xb64-240e_cifar100.py']

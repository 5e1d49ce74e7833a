_base_ = ['../_base_/networks/resnet18.py', '../_base_/recipes/8xb32-100e_imagenet.py']

model = dict(head=dict(num_classes=1000))

_base_ = ['../_base_/networks/resnet18.py', '../_base_/recipes/1xb32-300i_images64.py']

model = dict(head=dict(num_classes=None))

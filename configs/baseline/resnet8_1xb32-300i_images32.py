_base_ = ['../_base_/networks/resnet8.py', '../_base_/recipes/1xb32-300i_images32.py']

model = dict(head=dict(num_classes=None))

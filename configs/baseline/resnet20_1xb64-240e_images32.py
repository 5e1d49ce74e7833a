_base_ = ['../_base_/networks/resnet20.py', '../_base_/recipes/1xb64-240e_images32.py']

model = dict(head=dict(num_classes=None))

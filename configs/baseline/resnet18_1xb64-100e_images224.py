_base_ = [
    '../_base_/networks/resnet18.py',
    '../_base_/datasets/image_folder_224.py',
    '../_base_/recipes/1xb64-100e.py',
]

model = dict(head=dict(num_classes=None))  # as many as the data have

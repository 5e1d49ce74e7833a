_base_ = [
    '../_base_/networks/resnet56.py',
    '../_base_/datasets/image_folder_32.py',
    '../_base_/recipes/1xb64-240e.py',
]

model = dict(head=dict(num_classes=None))  # as many as the data have

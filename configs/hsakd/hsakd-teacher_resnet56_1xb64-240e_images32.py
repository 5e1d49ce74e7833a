_base_ = [
    '../_base_/networks/resnet56.py',
    '../_base_/datasets/image_folder_32.py',
    '../_base_/recipes/1xb64-240e.py',
    '../_base_/models/hsakd-teacher.py',
]

model = dict(_base_.pop('hsakd_teacher'), head=dict(num_classes=None))

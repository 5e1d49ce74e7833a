_base_ = [
    '../_base_/networks/resnet34.py',
    '../_base_/recipes/1xb32-300i_images64.py',
    '../_base_/models/hsakd-teacher.py',
]

model = dict(_base_.pop('hsakd_teacher'), head=dict(num_classes=None))

_base_ = [
    '../networks/resnet18.py',
    '../teachers/resnet34.py',
    '../recipes/1xb32-300i_images64.py',
]

_base_.model.head.num_classes = _base_.teacher.head.num_classes = None
model = dict(image_size=64, student=_base_.pop('model'), teacher=_base_.pop('teacher'))

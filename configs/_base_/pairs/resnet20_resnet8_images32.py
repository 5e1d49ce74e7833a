_base_ = [
    '../networks/resnet8.py',
    '../teachers/resnet20.py',
    '../recipes/1xb32-300i_images32.py',
]

_base_.model.head.num_classes = _base_.teacher.head.num_classes = None
model = dict(student=_base_.pop('model'), teacher=_base_.pop('teacher'))

_base_ = [
    '../networks/resnet20.py',
    '../teachers/resnet56.py',
    '../recipes/1xb64-240e_images32.py',
]

_base_.model.head.num_classes = _base_.teacher.head.num_classes = None
model = dict(student=_base_.pop('model'), teacher=_base_.pop('teacher'))

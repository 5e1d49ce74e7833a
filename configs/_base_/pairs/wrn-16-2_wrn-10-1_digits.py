_base_ = [
    '../networks/wrn-10-1.py',
    '../teachers/wrn-16-2.py',
    '../recipes/1xb64-80e_digits.py',
]

_base_.model.head.num_classes = _base_.teacher.head.num_classes = 10
model = dict(student=_base_.pop('model'), teacher=_base_.pop('teacher'))

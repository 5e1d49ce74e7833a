# Of any data, whose classes are those of the training data.
_base_ = ['../networks/resnet20.py', '../teachers/resnet56.py']

_base_.model.head.num_classes = _base_.teacher.head.num_classes = None
model = dict(student=_base_.pop('model'), teacher=_base_.pop('teacher'))

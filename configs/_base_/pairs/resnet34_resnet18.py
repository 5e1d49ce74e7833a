# Of any data, whose classes are those of the training data, in images of ImageNet's size.
_base_ = ['../networks/resnet18.py', '../teachers/resnet34.py']

_base_.model.head.num_classes = _base_.teacher.head.num_classes = None
model = dict(image_size=224, student=_base_.pop('model'), teacher=_base_.pop('teacher'))

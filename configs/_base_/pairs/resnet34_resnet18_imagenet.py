_base_ = [
    '../networks/resnet18.py',
    '../teachers/resnet34.py',
    '../recipes/8xb32-100e_imagenet.py',
]

_base_.model.head.num_classes = _base_.teacher.head.num_classes = 1000
model = dict(
    image_size=224,
    student=_base_.pop('model'),
    teacher=_base_.pop('teacher'),
    teacher_ckpt='work_dirs/resnet34_8xb32-100e_imagenet/epoch_100.pth',
)

_base_ = ['../baseline/resnet34_8xb32-100e_imagenet.py', '../_base_/models/hsakd-teacher.py']

model = _base_.pop('hsakd_teacher')

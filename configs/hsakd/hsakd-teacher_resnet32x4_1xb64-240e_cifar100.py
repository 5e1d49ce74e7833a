_base_ = ['../baseline/resnet32x4_1xb64-240e_cifar100.py', '../_base_/models/hsakd-teacher.py']

model = _base_.pop('hsakd_teacher')

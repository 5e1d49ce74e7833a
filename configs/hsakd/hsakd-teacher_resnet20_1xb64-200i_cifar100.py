_base_ = ['../baseline/resnet20_1xb64-200i_cifar100.py', '../_base_/models/hsakd-teacher.py']

model = _base_.pop('hsakd_teacher')

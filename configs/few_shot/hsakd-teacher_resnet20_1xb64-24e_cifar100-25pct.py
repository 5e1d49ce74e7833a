_base_ = ['resnet20_1xb64-24e_cifar100-25pct.py', '../_base_/models/hsakd-teacher.py']

model = _base_.pop('hsakd_teacher')

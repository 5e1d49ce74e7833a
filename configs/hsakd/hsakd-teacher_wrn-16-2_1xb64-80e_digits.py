_base_ = [
    '../_base_/networks/wrn-16-2.py',
    '../_base_/recipes/1xb64-80e_digits.py',
    '../_base_/models/hsakd-teacher.py',
]

model = dict(_base_.pop('hsakd_teacher'), head=dict(num_classes=10))

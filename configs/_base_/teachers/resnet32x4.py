_base_ = ['../networks/resnet32x4.py']

teacher = _base_.pop('model')

_base_ = ['../networks/resnet20.py']

teacher = _base_.pop('model')

_base_ = ['../networks/resnet56.py']

teacher = _base_.pop('model')

_base_ = ['../networks/resnet34.py']

teacher = _base_.pop('model')

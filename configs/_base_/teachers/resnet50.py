_base_ = ['../networks/resnet50.py']

teacher = _base_.pop('model')

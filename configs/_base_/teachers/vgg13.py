_base_ = ['../networks/vgg13.py']

teacher = _base_.pop('model')

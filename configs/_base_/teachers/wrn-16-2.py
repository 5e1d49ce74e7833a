_base_ = ['../networks/wrn-16-2.py']

teacher = _base_.pop('model')

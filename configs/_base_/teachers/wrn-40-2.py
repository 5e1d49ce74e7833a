_base_ = ['../networks/wrn-40-2.py']

teacher = _base_.pop('model')

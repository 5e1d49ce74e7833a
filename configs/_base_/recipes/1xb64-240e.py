# Of any data: a data set stands beside it in a config.
_base_ = ['../schedules/cifar_240e.py', '../default_runtime.py']

_base_ = ['../datasets/cifar10.py', '../schedules/cifar_240e.py', '../default_runtime.py']

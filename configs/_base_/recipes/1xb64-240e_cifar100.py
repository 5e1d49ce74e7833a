_base_ = ['../datasets/cifar100.py', '../schedules/cifar_240e.py', '../default_runtime.py']

_base_ = ['../datasets/tiny_imagenet_32.py', '../schedules/linear_100e.py', '../default_runtime.py']

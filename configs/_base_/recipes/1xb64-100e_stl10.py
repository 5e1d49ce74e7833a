_base_ = ['../datasets/stl10_32.py', '../schedules/linear_100e.py', '../default_runtime.py']

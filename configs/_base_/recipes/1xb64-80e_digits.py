_base_ = ['../datasets/digits.py', '../schedules/digits_80e.py', '../default_runtime.py']

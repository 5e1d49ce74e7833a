# Of any data, for networks and images of ImageNet's size.
_base_ = ['../schedules/images_100e.py', '../default_runtime.py']

_base_ = ['../datasets/image_folder_32.py', '../schedules/cifar_240e.py', '../default_runtime.py']

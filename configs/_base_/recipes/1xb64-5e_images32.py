_base_ = ['../datasets/image_folder_32.py', '../schedules/linear_100e.py', '../default_runtime.py']

param_scheduler = dict(milestones=[3, 4])
train_cfg = dict(max_epochs=5, val_interval=5)

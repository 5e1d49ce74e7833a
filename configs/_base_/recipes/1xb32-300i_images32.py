# A few minutes on a CPU, to see the loss fall on real images.
_base_ = ['../datasets/image_folder_32.py', '../schedules/images_300i.py', '../iters_runtime.py']

train_dataloader = dict(batch_size=32)

# Minutes on a CPU, half an hour for a ResNet-34: backbones for detection, see docs/detection.md
_base_ = ['../datasets/image_folder_64.py', '../schedules/images_300i.py', '../iters_runtime.py']

train_dataloader = dict(batch_size=32)
# Deep networks learn nothing at 0.05 in so few steps.
optim_wrapper = dict(optimizer=dict(lr=0.01))

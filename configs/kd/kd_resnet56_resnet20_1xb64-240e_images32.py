_base_ = [
    '../_base_/pairs/resnet56_resnet20.py',
    '../_base_/datasets/image_folder_32.py',
    '../_base_/recipes/1xb64-240e.py',
]

model = dict(type='KD', teacher_ckpt='work_dirs/resnet56_1xb64-240e_images32/epoch_240.pth')

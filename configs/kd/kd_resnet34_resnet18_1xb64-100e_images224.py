_base_ = [
    '../_base_/pairs/resnet34_resnet18.py',
    '../_base_/datasets/image_folder_224.py',
    '../_base_/recipes/1xb64-100e.py',
]

model = dict(type='KD', teacher_ckpt='work_dirs/resnet34_1xb64-100e_images224/epoch_100.pth')

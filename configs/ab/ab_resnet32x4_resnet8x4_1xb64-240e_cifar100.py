_base_ = ['../baseline/resnet8x4_1xb64-240e_cifar100.py']

# By labels alone, from the student that the first phase left.
load_from = 'work_dirs/ab-hints_resnet32x4_resnet8x4_1xb64-30e_cifar100/epoch_30.pth'

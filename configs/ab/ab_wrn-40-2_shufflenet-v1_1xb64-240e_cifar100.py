_base_ = ['../baseline/shufflenet-v1_1xb64-240e_cifar100.py']

# By labels alone, from the student that the first phase left.
load_from = 'work_dirs/ab-hints_wrn-40-2_shufflenet-v1_1xb64-30e_cifar100/epoch_30.pth'

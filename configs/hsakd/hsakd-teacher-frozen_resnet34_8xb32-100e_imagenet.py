_base_ = ['hsakd-teacher_resnet34_8xb32-100e_imagenet.py']

# torchvision's, from https://download.pytorch.org/models/resnet34-b627a593.pth
model = dict(frozen=True, backbone_ckpt='checkpoints/resnet34-b627a593.pth')

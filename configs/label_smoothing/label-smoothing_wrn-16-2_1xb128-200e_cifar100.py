_base_ = ['../baseline/wrn-16-2_1xb128-200e_cifar100.py']

model = dict(
    head=dict(
        loss=dict(
            type='mmpretrain.LabelSmoothLoss',
            label_smooth_val=10 / 99,  # 0.1 for the other classes together
        )
    )
)

# Of methods that flip images themselves, all copies of one alike.
unflipped = [
    dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4),
    dict(type='mmpretrain.PackInputs'),
]

"""A small ImageNet on disk, and files of weights as torchvision publishes them."""

from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image

SIZES = [(80, 60), (64, 90), (50, 120), (100, 100)]  # width, height
CLASSES = ('n01440764', 'n01443537', 'n01484850')


def write_imagenet(root: Path, annotated: bool = False) -> Path:
    """Write ``train/`` and ``val/``, each with six images of a class in several sizes and modes.

    Args:
        root: Where.
        annotated: Write ``meta/{train,val}.txt`` and, as ImageNet itself comes, validation images
            without folders; else folders by class alone.
    """
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        lines = []
        for label, name in enumerate(CLASSES):
            for i in range(6):
                width, height = SIZES[i % len(SIZES)]
                pixels = rng.integers(0, 100, (height, width, 3), dtype=np.uint8)
                pixels[..., label] += 120
                image = Image.fromarray(pixels)
                if i == 1:
                    image = image.convert('L')
                elif i == 2:
                    image = image.convert('CMYK')
                elif i == 3:  # one of ImageNet's images is a PNG with another name
                    image = image.convert('RGBA')
                flat = annotated and split == 'val'
                file = f'{name}_{i}.JPEG' if flat else f'{name}/{name}_{i}.JPEG'
                path = root / split / file
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path, format='PNG' if image.mode == 'RGBA' else 'JPEG')
                lines.append(f'{file} {label}\n')
        if annotated:
            (root / 'meta').mkdir(exist_ok=True)
            (root / 'meta' / f'{split}.txt').write_text(''.join(lines))
    return root


def save_torchvision(path: Path, name: str = 'resnet18', num_classes: int = 3) -> torch.nn.Module:
    """Write a network of torchvision's with random weights, all running statistics included."""
    network = getattr(torchvision.models, name)(weights=None, num_classes=num_classes)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    torch.save(network.state_dict(), path)
    return network.eval()

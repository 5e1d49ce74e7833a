"""The plain loop that ours is measured against: PyTorch and torchvision, as one writes it.

Eager, in float32, and nothing of hsakd but the networks: modules that give logits [B, N] of the
head and a tuple of joint logits [B, 4 * N] of the branches.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

#: Of one network: its loss, logits [N, K] of the images as they are, joint logits [4 * N, 4 * K].
Outputs = tuple[Tensor, Tensor, Sequence[Tensor]]


class Images(Dataset):
    """As torchvision's CIFAR-10 and ImageFolder: arrays [H, W, 3] or files, transformed."""

    def __init__(
        self, images: np.ndarray | Sequence[Path], labels: Sequence[int], transform: Callable
    ) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        else:
            image = Image.open(image).convert('RGB')
        return self.transform(image), self.labels[index]


def plain_loader(
    images: np.ndarray | Sequence[Path],
    labels: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int,
    workers: int,
) -> DataLoader:
    """The loader of CIFAR's arrays [n, 32, 32, 3], or of ImageNet's files.

    Mean and standard deviation are those of the channels RGB, in 0..1.
    """
    small = isinstance(images, np.ndarray)
    crop = T.RandomCrop(images.shape[1], 4) if small else T.RandomResizedCrop(224)
    transform = T.Compose([crop, T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(mean, std)])
    return DataLoader(
        Images(images, labels, transform),
        batch_size,
        shuffle=True,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        drop_last=True,
        persistent_workers=workers > 0,
    )


def rotated(images: Tensor) -> Tensor:
    """The four rotations [4 * N, C, H, W] of images [N, C, H, W], one image's after the other."""
    return torch.stack([torch.rot90(images, j, (2, 3)) for j in range(4)], dim=1).flatten(0, 1)


def joint_labels(labels: Tensor) -> Tensor:
    """Labels [4 * N] over (class x rotation) of labels [N]."""
    return torch.stack([4 * labels + j for j in range(4)], dim=1).flatten()


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL of softened distributions, times the temperature's square."""
    log_student = F.log_softmax(student / temperature, dim=1)
    of_teacher = F.softmax(teacher / temperature, dim=1)
    return F.kl_div(log_student, of_teacher, reduction='batchmean') * temperature**2


def joint_loss(network: nn.Module, images: Tensor, labels: Tensor) -> Outputs:
    """The teacher's own training (section 3.2)."""
    logits, joint = network(rotated(images))
    loss = F.cross_entropy(logits[::4], labels)
    for c in joint:
        loss = loss + F.cross_entropy(c, joint_labels(labels))
    return loss, logits[::4], joint


def offline_loss(
    student: nn.Module, teacher: nn.Module, images: Tensor, labels: Tensor, temperature: float
) -> Outputs:
    """A student that learns from a frozen teacher (section 3.3)."""
    images = rotated(images)
    with torch.no_grad():
        teacher_logits, teacher_joint = teacher(images)
    logits, joint = student(images)
    loss = F.cross_entropy(logits[::4], labels) + divergence(logits, teacher_logits, temperature)
    for c, c_teacher in zip(joint, teacher_joint, strict=True):
        loss = loss + divergence(c, c_teacher, temperature)
    return loss, logits[::4], joint


def online_loss(
    networks: Sequence[nn.Module], images: Tensor, labels: Tensor, temperature: float
) -> list[Outputs]:
    """Two networks that teach each other (section 3.4)."""
    images = rotated(images)
    (logits_a, joint_a), (logits_b, joint_b) = (network(images) for network in networks)
    outputs = []
    for logits, joint, peer_logits, peer_joint in (
        (logits_a, joint_a, logits_b, joint_b),
        (logits_b, joint_b, logits_a, joint_a),
    ):
        loss = F.cross_entropy(logits[::4], labels)
        loss = loss + divergence(logits, peer_logits.detach(), temperature)
        for c, c_peer in zip(joint, peer_joint, strict=True):
            loss = loss + F.cross_entropy(c, joint_labels(labels))
            loss = loss + divergence(c, c_peer.detach(), temperature)
        outputs.append((loss, logits[::4], joint))
    return outputs


class PlainLoop:
    """Trains one network by itself or from a teacher, or two from each other.

    Args:
        networks: The one or two that learn.
        teacher: The frozen one.
        loader: Of batches.
        temperature: Of the divergences.
        sgd: Settings of ``torch.optim.SGD``.
        device: Where the networks are.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        teacher: nn.Module | None,
        loader: DataLoader,
        temperature: float,
        sgd: dict,
        device: torch.device,
    ) -> None:
        self.networks = [network.train() for network in networks]
        self.teacher = teacher.eval() if teacher else None
        self.loader = loader
        self.temperature = temperature
        learning = [p for network in networks for p in network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(learning, **sgd)
        self.device = device
        self.images = 0
        self.loss = 0.0
        self.correct = Counter()  # by network
        self.correct_joint = Counter()  # by network and branch

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Without an end, on the device."""
        while True:
            for images, labels in self.loader:
                yield (
                    images.to(self.device, non_blocking=True),
                    labels.to(self.device, non_blocking=True),
                )

    def losses(self, images: Tensor, labels: Tensor) -> list[Outputs]:
        """Of each network that learns."""
        if self.teacher is not None:
            (student,) = self.networks
            return [offline_loss(student, self.teacher, images, labels, self.temperature)]
        if len(self.networks) == 2:
            return online_loss(self.networks, images, labels, self.temperature)
        return [joint_loss(self.networks[0], images, labels)]

    def step(self, images: Tensor, labels: Tensor) -> float:
        """Train on a batch.

        Args:
            images: [N, 3, H, W], normalized, not rotated.
            labels: [N].

        Returns:
            The loss before the step.
        """
        outputs = self.losses(images, labels)
        loss = sum(loss for loss, _, _ in outputs)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

        value = loss.item()
        self.images += len(labels)
        self.loss += value * len(labels)
        joint = joint_labels(labels)
        for a, (_, logits, joint_logits) in enumerate(outputs):
            self.correct[a] += (logits.argmax(1) == labels).sum().item()
            for index, c in enumerate(joint_logits):
                self.correct_joint[a, index] += (c.argmax(1) == joint).sum().item()
        return value

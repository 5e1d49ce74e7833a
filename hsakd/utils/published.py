"""The figures that the paper publishes, by the name of the config that repeats the experiment."""

# Percent. Of a teacher: plain; jointly trained with its branches.
_TEACHERS = {
    'wrn-40-2': (76.45, 80.70),
    'resnet56': (73.44, 77.20),
    'resnet32x4': (79.63, 83.73),
    'vgg13': (74.64, 78.48),
    'resnet50': (76.34, 83.85),
}
_STUDENTS = {
    'wrn-16-2': 73.57,
    'wrn-40-1': 71.95,
    'resnet20': 69.62,
    'resnet8x4': 72.95,
    'mobilenet-v2': 73.51,
    'shufflenet-v1': 71.74,
    'shufflenet-v2': 72.96,
}
# Distilled from the frozen teacher; from the joint one.
_DISTILLED = {
    'wrn-40-2_wrn-16-2': (77.20, 78.67),
    'wrn-40-2_wrn-40-1': (77.00, 78.12),
    'resnet56_resnet20': (72.58, 73.73),
    'resnet32x4_resnet8x4': (77.26, 77.69),
    'vgg13_mobilenet-v2': (77.45, 79.27),
    'resnet50_mobilenet-v2': (78.79, 79.43),
    'wrn-40-2_shufflenet-v1': (78.51, 80.11),
    'resnet32x4_shufflenet-v2': (79.93, 80.86),
}
_ONLINE = {
    'wrn-40-2': 82.58,
    'wrn-40-1': 76.67,
    'resnet56': 78.16,
    'resnet32x4': 84.91,
    'vgg13': 80.44,
    'mobilenet-v2': 78.85,
    'shufflenet-v1': 78.34,
    'shufflenet-v2': 79.98,
}
_FEW_SHOT = {25: 68.50, 50: 72.18, 75: 73.26}

_CIFAR = '1xb64-240e_cifar100'
_IMAGENET = '8xb32-100e_imagenet'

_TOP1 = {
    **{f'{name}_{_CIFAR}': plain for name, (plain, _) in _TEACHERS.items()},
    **{f'{name}_{_CIFAR}': value for name, value in _STUDENTS.items()},
    **{f'hsakd-teacher_{name}_{_CIFAR}': joint for name, (_, joint) in _TEACHERS.items()},
    # A frozen teacher's head is that of the plain network.
    **{
        f'hsakd-teacher-frozen_{name}_1xb64-100e_cifar100': plain
        for name, (plain, _) in _TEACHERS.items()
    },
    **{f'hsakd-offline_{pair}_{_CIFAR}': joint for pair, (_, joint) in _DISTILLED.items()},
    **{f'hsakd-online_{name}_{_CIFAR}': value for name, value in _ONLINE.items()},
    **{
        f'hsakd-offline_resnet56_resnet20_{_CIFAR}-{percent}pct': value
        for percent, value in _FEW_SHOT.items()
    },
    'linear-eval_mobilenet-v2_1xb64-100e_stl10': 74.66,
    'linear-eval_mobilenet-v2_1xb64-100e_tiny-imagenet': 42.57,
    f'resnet18_{_IMAGENET}': 69.75,
    f'hsakd-offline_resnet34_resnet18_{_IMAGENET}': 72.39,
    f'hsakd-online_resnet18_{_IMAGENET}': 71.49,
}
_TOP5 = {
    f'resnet18_{_IMAGENET}': 89.07,
    f'hsakd-offline_resnet34_resnet18_{_IMAGENET}': 91.00,
}
_FROZEN_TEACHER_TOP1 = {
    **{f'hsakd-offline_{pair}_{_CIFAR}': frozen for pair, (frozen, _) in _DISTILLED.items()},
    f'hsakd-offline_resnet34_resnet18_{_IMAGENET}': 72.16,
}
_FROZEN_TEACHER_TOP5 = {f'hsakd-offline_resnet34_resnet18_{_IMAGENET}': 90.85}

#: Figures in percent by metric and config name; of distilled students, from the joint teacher.
PUBLISHED = {'accuracy/top1': _TOP1, 'accuracy/top5': _TOP5}
#: The same of students distilled from the frozen teacher.
PUBLISHED_FROZEN_TEACHER = {
    'accuracy/top1': _FROZEN_TEACHER_TOP1,
    'accuracy/top5': _FROZEN_TEACHER_TOP5,
}


def published_figure(config: str, metric: str, frozen_teacher: bool = False) -> float | None:
    """The paper's figure in percent for the experiment of a config, or None where it has none.

    Args:
        config: Name of the config, without ``.py``.
        metric: 'accuracy/top1' or 'accuracy/top5'.
        frozen_teacher: The student's teacher was trained with a frozen backbone.
    """
    figures = PUBLISHED_FROZEN_TEACHER if frozen_teacher else PUBLISHED
    return figures.get(metric, {}).get(config)

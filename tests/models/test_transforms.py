import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hsakd.models.transforms import (
    ColorPermutation,
    CombinedTransforms,
    NoTransform,
    Rotation,
    TransformSet,
)
from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError
from tests.conftest import batch, network_cfg

SETS = {
    'rotation': (dict(type='Rotation'), 4),
    'color': (dict(type='ColorPermutation'), 6),
    'both': (
        dict(
            type='CombinedTransforms',
            first=dict(type='Rotation'),
            second=dict(type='ColorPermutation'),
        ),
        24,
    ),
    'none': (dict(type='NoTransform'), 1),
}
every_set = pytest.mark.parametrize('config, m', SETS.values(), ids=SETS)

images = st.builds(
    lambda n, c, h, seed: torch.rand(n, c, h, h, generator=torch.Generator().manual_seed(seed)),
    n=st.integers(1, 5),
    c=st.integers(1, 3),
    h=st.integers(1, 9),
    seed=st.integers(0, 99),
)


@given(images)
def test_row_4i_plus_j_is_image_i_rotated_j_times(x):
    rotated = Rotation()(x)
    assert rotated.shape == (4 * len(x), *x.shape[1:])
    for i, image in enumerate(x):
        for j in range(4):
            turned = torch.rot90(image, j, (1, 2))
            assert torch.equal(rotated[4 * i + j], turned)


def test_rotation_is_counter_clockwise():
    image = torch.zeros(1, 1, 3, 3)
    image[0, 0, 0, 2] = 1  # top right
    assert Rotation()(image)[1, 0, 0, 0] == 1  # is top left after a quarter turn


@every_set
@given(x=images.filter(lambda x: x.shape[1] == 3), seed=st.integers(0, 99))
def test_every_set_is_interleaved_and_its_joint_labels_are_a_bijection(config, m, x, seed):
    transforms: TransformSet = MODELS.build(config)
    shown = transforms(x)
    assert transforms.num_transforms == m == len(transforms.names) == len(set(transforms.names))
    assert shown.shape == (m * len(x), *x.shape[1:])
    assert torch.equal(shown[::m], x)
    for j in range(m):
        assert torch.equal(shown[j::m], transforms.transform(x, j))
    labels = torch.randint(0, 99, (len(x),), generator=torch.Generator().manual_seed(seed))
    joint = transforms.joint_labels(labels)
    assert torch.equal(joint // m, labels.repeat_interleave(m))
    assert torch.equal(joint % m, torch.arange(m).repeat(len(labels)))


def test_transforms_of_a_set_differ():
    x = torch.rand(1, 3, 4, 4)
    for config, m in SETS.values():
        shown = MODELS.build(config)(x)
        assert len({tuple(image.flatten().tolist()) for image in shown}) == m


def test_color_permutations_are_those_of_the_channels():
    x = torch.rand(1, 3, 2, 2)
    orders = {tuple(image[:, 0, 0].tolist()) for image in ColorPermutation()(x)}
    r, g, b = x[0, :, 0, 0].tolist()
    assert orders == {(r, g, b), (r, b, g), (g, r, b), (g, b, r), (b, r, g), (b, g, r)}


def test_combined_transforms_apply_both():
    x = torch.rand(2, 3, 4, 4)
    both = CombinedTransforms(dict(type='Rotation'), dict(type='ColorPermutation'))
    rotated = Rotation().transform(x, 3)
    assert torch.equal(both.transform(x, 6 * 3 + 4), ColorPermutation().transform(rotated, 4))


def test_rotation_of_images_that_are_not_square_is_named():
    with pytest.raises(ConfigError, match='4x6'):
        Rotation()(torch.rand(1, 3, 4, 6))
    assert NoTransform()(torch.rand(1, 3, 4, 6)).shape == (1, 3, 4, 6)


@every_set
def test_the_joint_label_space_follows(config, m):
    teacher = MODELS.build(network_cfg(type='HSAKDTeacher', transforms=config))
    inputs, samples = batch(2)
    _, joint_logits = teacher(inputs)
    assert [c.shape for c in joint_logits] == [(2, 5 * m)] * 3
    sum(teacher(inputs, samples, mode='loss').values()).backward()
    student = network_cfg(transforms=config)
    offline = MODELS.build(dict(type='HSAKDOffline', student=student, teacher=student))
    losses = offline(inputs, samples, mode='loss')
    assert all(torch.isfinite(loss) for loss in losses.values())
    metrics = teacher.predict_with_branches(inputs, samples)
    assert metrics[0].pred_joint_label.shape == (3, m)

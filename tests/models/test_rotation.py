import torch
from hypothesis import given
from hypothesis import strategies as st

from hsakd.models.transforms import Rotation

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


@given(images)
def test_rotating_four_times_is_identity_and_upright_rows_are_the_images(x):
    rotation = Rotation()
    assert torch.equal(rotation(x)[::4], x)
    quarter = rotation(x)[1::4]
    half = rotation(quarter)[1::4]
    assert torch.equal(half, rotation(x)[2::4])
    assert torch.equal(rotation(half)[2::4], x)


def test_rotation_is_counter_clockwise():
    image = torch.zeros(1, 1, 3, 3)
    image[0, 0, 0, 2] = 1  # top right
    assert Rotation()(image)[1, 0, 0, 0] == 1  # is top left after a quarter turn


@given(st.lists(st.integers(0, 99), min_size=1, max_size=20))
def test_joint_labels_are_a_bijection_onto_class_and_rotation(labels):
    labels = torch.tensor(labels)
    joint = Rotation().joint_labels(labels)
    assert torch.equal(joint // 4, labels.repeat_interleave(4))
    assert torch.equal(joint % 4, torch.arange(4).repeat(len(labels)))

import io

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from hsakd.registry import MODELS
from hsakd.visualization import JointDistributions, draw_joint_distributions
from tests.conftest import ROOT

TOOL = 'tools/analysis_tools/plot_joint_distribution.py'
CONFIG = ROOT / 'configs/hsakd/hsakd-offline_wrn-16-2_wrn-10-1_1xb64-80e_digits.py'


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder with checkpoints of student and teacher, untrained, and a picture."""
    folder = tmp_path_factory.mktemp('trained')
    config = Config.fromfile(CONFIG)
    classes = [f'digit {i}' for i in range(10)]
    meta = dict(cfg=config.pretty_text, dataset_meta=dict(classes=classes))
    config.model.teacher_ckpt = None
    model = MODELS.build(config.model.to_dict())
    torch.save(dict(state_dict=model.teacher.state_dict(), meta=meta), folder / 'teacher.pth')
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'student.pth')
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / 'big.png')
    return folder, model.eval()


def test_distributions_of_both_networks(trained):
    from hsakd.apis.joint_distribution import load_pair, read_images, test_images

    folder, model = trained
    config = Config.fromfile(CONFIG)
    config.model.teacher_ckpt = str(folder / 'teacher.pth')
    pair = load_pair(config, folder / 'student.pth', branch=2)
    assert pair.classes[3] == 'digit 3' and len(pair.transforms) == 4
    assert pair.names == ('teacher, branch 2', 'student, branch 2')
    titles, inputs = test_images(pair, [5, 0])
    assert titles[0].startswith('image 5 of the test set: digit ')
    shown = pair.examine(titles, inputs)
    image = shown[1]
    with torch.no_grad():
        copies = torch.stack([torch.rot90(inputs[1], j, (1, 2)) for j in range(4)])
        logits = [network.logits(copies)[1][1] for network in (model.teacher, model.student)]
        teacher, student = (c.softmax(1).reshape(4, 10, 4).numpy() for c in logits)
        t, s = ((c / 3).log_softmax(1) for c in logits)
        kl = 9 * (t.exp() * (t - s)).sum(1)
    assert np.allclose(image.teacher, teacher, atol=1e-5)
    assert np.allclose(image.student, student, atol=1e-5)
    assert np.allclose(image.divergences, kl, atol=1e-5)
    # The pictures are those of the data set, as they are.
    wanted = (inputs[1] * 90 + 75).round().permute(1, 2, 0).byte().numpy()
    assert (image.copies[0] == wanted).all()
    assert (image.copies[1] == np.rot90(wanted)).all()

    titles, inputs = read_images(pair, [folder / 'big.png'])
    assert titles == ['big.png'] and inputs.shape == (1, 3, 8, 8)


def test_the_tool(trained, tmp_path, in_process, monkeypatch):
    folder, _ = trained
    monkeypatch.chdir(tmp_path)
    teacher = ('--cfg-options', f'model.teacher_ckpt={folder / "teacher.pth"}')
    base = (CONFIG, folder / 'student.pth')
    picture = folder / 'big.png'
    status, error = in_process(TOOL, *base, picture, '--indices', 1, '--out', 'h.png', *teacher)
    assert status == 0, error
    with Image.open('h.png') as two:
        assert two.format == 'PNG' and two.height > two.width
    for options, words in (
        ([picture, '--branch', 4, *teacher], '--branch: '),
        ([picture, '--branch', 0, *teacher], '1..3, got 0'),
        (['--indices', 1597, *teacher], '0..1596, got [1597]'),
        (['gone.png', *teacher], "'gone.png': no such file"),
        ([picture, '--cfg-options', 'model.teacher_ckpt=gone.pth'], "'gone.pth': no such file"),
        ([picture, '--cfg-options', 'model.teacher_ckpt=None'], 'model.teacher_ckpt: '),
        ([picture, *teacher], "'h.png' exists"),
    ):
        status, error = in_process(TOOL, *base, *options, '--out', 'h.png')
        assert status == 1 and words in error and 'Traceback' not in error, error
    plain = ROOT / 'configs/baseline/wrn-10-1_1xb64-80e_digits.py'
    status, error = in_process(TOOL, plain, folder / 'student.pth', picture, '--out', 'i.png')
    assert status == 1 and 'model: expected a distiller' in error
    assert in_process(TOOL, *base, '--out', 'i.png')[0] == 2


@pytest.mark.parametrize(('m', 'classes'), [(1, 3), (4, 10), (24, 100)])
def test_pictures_of_any_number_of_transforms_and_classes(m, classes):
    rng = np.random.default_rng(0)
    joint = rng.dirichlet(np.ones(classes * m), (2, m)).reshape(2, m, classes, m)
    copies = rng.integers(0, 255, (m, 8, 8, 3), dtype=np.uint8)
    image = JointDistributions('a name ' * 50, copies, *joint, rng.random(m))
    names = [f'class {i}' for i in range(classes)]
    content = draw_joint_distributions(
        [image, image], names, [f'{90 * j}°' for j in range(m)], ('teacher', 'student')
    )
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == 'PNG' and picture.width < 5000

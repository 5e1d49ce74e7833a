"""tools/predict.py."""

import copy
import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hsakd.apis import load_classifier, predict, readable_images, save_predictions
from hsakd.apis.detector import Detections
from hsakd.apis.inference import Prediction
from hsakd.datasets import Digits
from hsakd.registry import MODELS
from hsakd.utils.errors import CheckpointError, DataError, UserError
from tests.conftest import network_cfg, run_tool

CLASSES = ('apple', 'bear', 'cloud', 'dolphin', 'elm')


def test_digits_from_training_to_pictures(tmp_path: Path, tool: Callable) -> None:
    """What was trained for seconds reads digits from files of another size, once published."""
    trained = run_tool(
        'tools/train.py',
        'configs/baseline/wrn-10-1_1xb64-80e_digits.py',
        '--work-dir',
        tmp_path / 'work',
        '--cfg-options',
        'train_cfg.max_epochs=6',
        'train_cfg.val_interval=9',
        'train_dataloader.dataset.train_size=600',
        'val_dataloader.dataset.train_size=600',
    )
    assert trained.returncode == 0, trained.stderr
    publish = tool('model_converters/publish_student')
    publish([str(tmp_path / 'work' / 'epoch_6.pth'), str(tmp_path / 'wrn')])
    (model,) = tmp_path.glob('wrn-*.pth')

    digits = Digits('test', train_size=600)
    (tmp_path / 'digits').mkdir()
    for i in range(50):
        image = Image.fromarray(digits[i]['img']).resize((48, 48), Image.Resampling.NEAREST)
        image.save(tmp_path / 'digits' / f'{i:02d}.png')
    result = run_tool(
        'tools/predict.py', tmp_path / 'digits', '--model', model, '--topk', 1,
        '--out', tmp_path / 'out', '--predictions', tmp_path / 'found.csv',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = [line.split('│')[1:4] for line in result.stdout.splitlines() if '.png' in line]
    assert [image.strip() for image, _, _ in rows] == [f'{i:02d}.png' for i in range(50)]
    right = sum(int(row[1]) == digits[i]['gt_label'] for i, row in enumerate(rows))
    assert right >= 40
    assert f'images: 50; pictures in {tmp_path / "out"}' in result.stdout
    assert len(list((tmp_path / 'out').glob('*.png.png'))) == 50
    lines = [line.split(',')[:2] for line in (tmp_path / 'found.csv').read_text().splitlines()]
    assert lines[1:] == [[image.strip(), name.strip()] for image, name, _ in rows]


@pytest.mark.parametrize('kind', [Prediction, Detections])
def test_predictions_as_files(kind: type, tmp_path: Path) -> None:
    boxes = [[(1.0, 2.0, 3.0, 4.5)] * 2] if kind is Detections else []
    found = kind(tmp_path / 'a/x.png', ['cat', 'a "dog", old'], [0.75, 0.25], *boxes)
    save_predictions([found], tmp_path / 'x.json', tmp_path)
    (one,) = json.loads((tmp_path / 'x.json').read_text())
    assert one['image'] == 'a/x.png' and one['scores'] == [0.75, 0.25]
    save_predictions([found], tmp_path / 'x.csv', tmp_path)
    head, first, second = csv.reader((tmp_path / 'x.csv').read_text().splitlines())
    more = ['1.0', '2.0', '3.0', '4.5'] if boxes else []
    assert head == ['image', 'class', 'score', *(['x1', 'y1', 'x2', 'y2'] if boxes else [])]
    assert first == ['a/x.png', 'cat', '0.75', *more] and second[1] == 'a "dog", old'
    with pytest.raises(UserError, match='.json or .csv'):
        save_predictions([found], tmp_path / 'x.txt', tmp_path)


@pytest.fixture
def main(tool: Callable) -> Callable:
    return tool('predict')


@pytest.fixture
def model(tmp_path: Path, save_training_checkpoint: Callable) -> tuple[Path, nn.Module]:
    """A training checkpoint for 32x32 images of five classes, and its network."""
    network = MODELS.build(copy.deepcopy(network_cfg())).eval()
    nn.init.normal_(network.head.fc.weight)
    pipeline = [dict(type='mmpretrain.PackInputs')]
    config = dict(
        default_scope='hsakd',
        model=network_cfg(),
        data_preprocessor=dict(mean=[90.0, 120.0, 150.0], std=[60.0, 70.0, 80.0], to_rgb=False),
        test_dataloader=dict(dataset=dict(type='CIFAR10', pipeline=pipeline)),
    )
    save_training_checkpoint(tmp_path / 'epoch_3.pth', config, network, CLASSES)
    return tmp_path / 'epoch_3.pth', network


def save_image(path: Path, width: int = 32, height: int = 32, mode: str = 'RGB') -> np.ndarray:
    """A random image; what was saved [H, W, 3], uint8, RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)
    image.save(path)
    return np.array(image.convert('RGB'))


def test_scores_are_those_of_the_network_on_rgb(model: tuple, tmp_path: Path) -> None:
    checkpoint, network = model
    image = save_image(tmp_path / 'a.png')
    (prediction,) = predict(load_classifier(checkpoint), [tmp_path / 'a.png'], topk=9)
    normalized = (image - np.array([90, 120, 150])) / np.array([60, 70, 80])
    inputs = torch.from_numpy(normalized.transpose(2, 0, 1)[None]).float()
    with torch.no_grad():
        scores, labels = network.logits(inputs)[0].softmax(1)[0].sort(descending=True)
    assert prediction.classes == [CLASSES[i] for i in labels]
    assert prediction.scores == pytest.approx(scores.tolist(), abs=1e-6)


def test_takes_images_of_any_size_and_kind_in_subfolders(
    model: tuple, tmp_path: Path, main: Callable, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / 'images'
    save_image(folder / 'b' / 'wide.JPG', 300, 20)
    save_image(folder / 'b' / 'gray.png', 8, 90, 'L')
    save_image(folder / 'b' / 'gray.bmp', 33, 31, 'L')
    save_image(folder / 'alpha.webp', 64, 64, 'RGBA')
    save_image(folder / 'cmyk.jpeg', 64, 64, 'CMYK')
    save_image(folder / 'palette.tif', 40, 64, 'P')
    (folder / 'notes.txt').write_text('no image')
    main([str(folder), '--model', str(model[0]), '--topk', '2', '--out', str(tmp_path / 'out')])
    out = capsys.readouterr().out
    names = ['alpha.webp', 'b/gray.bmp', 'b/gray.png', 'b/wide.JPG', 'cmyk.jpeg', 'palette.tif']
    shown = [line.split('│')[1].strip() for line in out.splitlines() if line.startswith('│')]
    assert [name for name in shown if name] == names and len(shown) == 2 * len(names)
    pictures = [tmp_path / 'out' / f'{name}.png' for name in names]
    assert sorted(p for p in (tmp_path / 'out').rglob('*') if p.is_file()) == pictures
    with Image.open(tmp_path / 'out' / 'b' / 'wide.JPG.png') as picture:
        assert picture.size == (1605, 107)  # enlarged, within limits


def test_draws_on_the_image_as_it_is(model: tuple, tmp_path: Path, main: Callable) -> None:
    folder = tmp_path / 'images'
    image = save_image(folder / 'a.png', 500, 450)
    main([str(folder / 'a.png'), '--model', str(model[0]), '--out', str(tmp_path / 'out')])
    with Image.open(tmp_path / 'out' / 'a.png.png') as picture:
        drawn = np.array(picture.convert('RGB'))
    assert drawn.shape == image.shape
    # The lower half bears no text.
    np.testing.assert_allclose(drawn[250:].astype(int), image[250:].astype(int), atol=1)
    assert not np.array_equal(drawn[:100], image[:100])


def test_names_an_image_that_cannot_be_decoded(
    model: tuple, tmp_path: Path, main: Callable, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / 'images'
    save_image(folder / 'good.png')
    save_image(folder / 'truncated.jpg', 200, 200)
    content = (folder / 'truncated.jpg').read_bytes()
    (folder / 'truncated.jpg').write_bytes(content[: len(content) // 2])
    (folder / 'empty.png').touch()
    (folder / 'text.png').write_text('no image')
    Image.fromarray(np.ones((9, 9), np.float32)).save(folder / 'float.tif')
    args = [str(folder), '--model', str(model[0]), '--out', str(tmp_path / 'out')]
    with pytest.raises(DataError, match=r'empty.png.*\(4 images in all\)'):
        main(args)
    assert not (tmp_path / 'out').exists()

    main([*args, '--skip-bad-images'])
    out, err = capsys.readouterr()
    assert 'images: 1; 4 skipped, since they cannot be decoded' in out
    for name in ('empty.png', 'float.tif', 'text.png', 'truncated.jpg'):
        assert f'skipped, cannot be decoded: {folder / name}' in err
    assert [p.name for p in (tmp_path / 'out').iterdir()] == ['good.png.png']

    (folder / 'good.png').unlink()
    with pytest.raises(DataError, match='images.*none of 4'):
        main([*args, '--skip-bad-images'])
    good, bad = readable_images([folder / 'text.png'])
    assert good == [] and list(bad) == [folder / 'text.png']


def test_says_what_is_wrong_with_paths(
    model: tuple, tmp_path: Path, main: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, image = str(model[0]), tmp_path / 'images' / 'a.png'
    save_image(image)
    (tmp_path / 'empty').mkdir()
    for name in ('none', 'empty'):
        with pytest.raises(DataError, match=f"{name}': .*image"):
            main([str(tmp_path / name), '--model', checkpoint])
    with pytest.raises(DataError, match='--out=.*/images/out.* inside .*/images'):
        main([str(image.parent), '--model', checkpoint, '--out', str(image.parent / 'out')])
    for out in (checkpoint, f'{checkpoint}/out'):  # before anything is predicted
        with pytest.raises(UserError, match='--out=.*epoch_3.pth'):
            main([str(image), '--model', str(tmp_path / 'none.pth'), '--out', out])
    with pytest.raises(CheckpointError, match=r"--model='.*none.pth'"):
        main([str(image), '--model', str(tmp_path / 'none.pth')])
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    for device in ('nonsense', 'cuda:9'):
        with pytest.raises(UserError, match=f'--device.*{device}'):
            main([str(image), '--model', checkpoint, '--device', device])


@pytest.mark.parametrize(
    ('option', 'value'),
    [('topk', '0'), ('topk', 'x'), ('score-thr', '-0.1'), ('score-thr', 'nan'), ('score-thr', 'x')],
)
def test_numbers_out_of_range(
    option: str, value: str, main: Callable, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(['images', '--model', 'x.pth', f'--{option}={value}'])
    assert exit_.value.code == 2
    assert re.search(f"--{option}: .*'{value}'", capsys.readouterr().err)

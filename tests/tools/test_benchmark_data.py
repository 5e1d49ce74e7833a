"""tools/benchmarks/data.py, on little data."""

import json

import pytest
import torch

from hsakd.utils.errors import UserError


def test_report(tool, monkeypatch, tmp_path, capsys):
    main = tool('benchmarks/data')
    monkeypatch.setitem(main.__globals__, 'CIFAR_IMAGES', 640)
    monkeypatch.setitem(main.__globals__, 'JPEGS', 4)
    out = tmp_path / 'data.json'
    options = ['--rounds', '2', '--seconds', '0.01', '--workers', '1', '--out', str(out)]
    monkeypatch.setattr('sys.argv', ['data.py', *options])
    main()
    rates = json.loads(out.read_text())['images_per_second']
    assert [name.split(',')[0] for name in rates] == ['CIFAR'] * 3 + ['ImageNet'] * 3
    assert all(len(of_rounds) == 2 and min(of_rounds) > 0 for of_rounds in rates.values())
    assert 'CIFAR, in memory' in capsys.readouterr().out
    with pytest.raises(UserError, match='data.json.*--force'):
        main()


def test_images_are_normalised_once_wherever_that_is(tool, monkeypatch, tmp_path):
    module = tool('benchmarks/data').__globals__
    monkeypatch.setitem(module, 'JPEGS', 64)
    loaders = []

    def record(loader, config, device):
        loaders.append((loader, config.data_preprocessor))

    monkeypatch.setitem(module, 'preprocessed', record)
    module['imagenet'](tmp_path, 0, torch.device('cpu'))
    types = [(next(iter(loader))['inputs'].dtype, bool(cfg)) for loader, cfg in loaders]
    assert types == [(torch.float32, False), (torch.uint8, True), (torch.uint8, True)]

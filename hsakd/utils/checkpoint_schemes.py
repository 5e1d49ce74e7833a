"""mmengine's checkpoint loader without its fall-back to full unpickling.

mmengine reads a file with ``weights_only`` and, where that refuses it, once more without; what it
downloads it reads without from the start. :func:`install` registers loaders for all its schemes
that read by :func:`hsakd.utils.checkpoint.read_checkpoint`, so that ``init_cfg`` of type
``Pretrained``, ``mmengine.runner.load_checkpoint`` and what else goes through it are as careful.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from urllib.parse import urlparse

from .errors import CheckpointError

NAME = 'mmengine.runner.checkpoint'


def install() -> None:
    """Register the loaders, as soon as mmengine's are imported.

    They import torch, and ``import hsakd`` does not.
    """
    if NAME in sys.modules:
        _register(sys.modules[NAME])
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def load_from_local(filename: str, map_location: object = None) -> dict:
    """The content of a file.

    Raises:
        CheckpointError: As :func:`~hsakd.utils.checkpoint.read_checkpoint`.
    """
    from .checkpoint import read_checkpoint

    return read_checkpoint(filename, 'checkpoint', map_location)


def load_from_http(filename: str, map_location: object = None) -> dict:
    """The content of a file that is downloaded once, to torch's folder for those.

    Raises:
        CheckpointError: It cannot be downloaded, or as :func:`load_from_local`.
    """
    from mmengine.dist import barrier, is_main_process
    from torch import hub

    folder = Path(hub.get_dir()) / 'checkpoints'
    file = folder / Path(urlparse(filename).path).name

    def download() -> None:
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            hub.download_url_to_file(filename, str(file), progress=False)

    try:
        if is_main_process():
            download()
        barrier()
        download()  # where other processes have another disk
    except OSError as error:
        raise CheckpointError(
            f'checkpoint={filename!r}: cannot be downloaded to {folder} ({error}); accepted is '
            'also a file'
        ) from error
    return load_from_local(str(file), map_location)


def load_from_hub(filename: str, map_location: object = None) -> dict:
    """The content of a file that mmengine's lists know by a name, as ``torchvision://resnet50``.

    Raises:
        CheckpointError: There is no such name, or as :func:`load_from_http`.
    """
    from mmengine.runner import checkpoint as mmengines

    scheme, name = filename.split('://', 1)
    if scheme in ('torchvision', 'modelzoo'):
        addresses = mmengines.get_torchvision_models()
    elif scheme == 'mmcls':
        addresses = mmengines.get_mmcls_models()
    else:
        addresses = mmengines.get_external_models()
        name = mmengines.get_deprecated_model_names().get(name, name)
    if name not in addresses:
        raise CheckpointError(
            f'checkpoint={filename!r}: mmengine knows no such checkpoint; accepted are a file and, '
            f'e.g., {scheme}://{next(iter(addresses))}'
        )
    address = addresses[name]
    if address.startswith(('http://', 'https://')):
        content = load_from_http(address, map_location)
    else:
        content = load_from_local(Path(mmengines._get_mmengine_home()) / address, map_location)
    return mmengines._process_mmcls_checkpoint(content) if scheme == 'mmcls' else content


def load_from_elsewhere(filename: str, map_location: object = None) -> dict:
    """Refuse what mmengine would fetch from a storage of its makers.

    Raises:
        CheckpointError: Always.
    """
    raise CheckpointError(f'checkpoint={filename!r}: accepted is a file; download it first')


_LOADERS = {
    load_from_local: [''],
    load_from_http: ['http://', 'https://'],
    load_from_hub: ['modelzoo://', 'torchvision://', 'open-mmlab://', 'openmmlab://', 'mmcls://'],
    load_from_elsewhere: ['pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://'],
}


def _register(mmengines: ModuleType) -> None:
    for loader, prefixes in _LOADERS.items():
        mmengines.CheckpointLoader.register_scheme(prefixes, loader, force=True)


class _Finder(MetaPathFinder):
    """Finds mmengine's module as others would, and registers the loaders once it is executed."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname == NAME else None
        if spec is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            _register(module)

        spec.loader.exec_module = execute_and_register
        return spec

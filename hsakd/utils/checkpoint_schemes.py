"""mmengine's checkpoint loader without its fall-back to full unpickling.

mmengine reads a file with ``weights_only`` and, where that refuses it, once more without; what it
downloads it reads without from the start. :func:`install` registers loaders for all its schemes
that read by :func:`hsakd.utils.checkpoint.read_checkpoint`, so that ``init_cfg`` of type
``Pretrained``, ``mmengine.runner.load_checkpoint`` and what else goes through it are as careful.
"""

import os
from pathlib import Path
from urllib.parse import urlparse

from mmengine.dist import barrier, is_main_process
from mmengine.runner import checkpoint as mmengines
from torch import hub

from .checkpoint import checkpoint_weights, read_checkpoint
from .errors import CheckpointError


def install() -> None:
    """Register the loaders with mmengine, in the place of its own."""
    for loader, prefixes in _LOADERS.items():
        mmengines.CheckpointLoader.register_scheme(prefixes, loader, force=True)


def load_from_local(filename: str, map_location: object = None) -> dict:
    """The content of a file.

    Raises:
        CheckpointError: As :func:`~hsakd.utils.checkpoint.read_checkpoint`.
    """
    return read_checkpoint(filename, 'checkpoint', map_location)


def load_from_http(filename: str, map_location: object = None) -> dict:
    """The content of a file that is downloaded once, to torch's folder for those.

    Raises:
        CheckpointError: It cannot be downloaded, or as :func:`load_from_local`.
    """
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
        raise CheckpointError.expected(
            f'checkpoint={filename!r}', 'a file, or an address to download from', f'{error}'
        ) from error
    return load_from_local(str(file), map_location)


def load_from_hub(filename: str, map_location: object = None) -> dict:
    """The content of a file that mmengine's lists know by a name, as ``torchvision://resnet50``.

    Raises:
        CheckpointError: There is no such name, or as :func:`load_from_http`.
    """
    scheme, name = filename.split('://', 1)
    if scheme in ('torchvision', 'modelzoo'):
        addresses = mmengines.get_torchvision_models()
    elif scheme == 'mmcls':
        addresses = mmengines.get_mmcls_models()
    else:
        addresses = mmengines.get_external_models()
        name = mmengines.get_deprecated_model_names().get(name, name)
    expected = f'a file or a name in the lists of mmengine, as {scheme}://{next(iter(addresses))}'
    CheckpointError.check(name in addresses, 'checkpoint', expected, repr(filename))
    address = addresses[name]
    if address.startswith(('http://', 'https://')):
        content = load_from_http(address, map_location)
    else:
        cache = Path(os.getenv('XDG_CACHE_HOME', '~/.cache'))
        home = Path(os.getenv('MMENGINE_HOME', cache / 'mmengine'))
        content = load_from_local(home / address, map_location)
    if scheme != 'mmcls':
        return content
    weights = checkpoint_weights(content)  # of classifiers, whose backbones alone are wanted
    prefix = 'backbone.'
    return dict(
        state_dict={k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    )


def load_from_elsewhere(filename: str, map_location: object = None) -> dict:
    """Refuse what mmengine would fetch from a storage of its makers.

    Raises:
        CheckpointError: Always.
    """
    raise CheckpointError.expected('checkpoint', 'a file (download it first)', repr(filename))


_LOADERS = {
    load_from_local: [''],
    load_from_http: ['http://', 'https://'],
    load_from_hub: ['modelzoo://', 'torchvision://', 'open-mmlab://', 'openmmlab://', 'mmcls://'],
    load_from_elsewhere: ['pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://'],
}

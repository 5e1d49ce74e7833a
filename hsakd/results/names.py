"""Names of configs, and the files of those names."""

import difflib
import os
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Self

#: The config files that come with hsakd: those of the clone, to which a link leads, or the wheel's.
CONFIGS = (Path(__file__).resolve().parents[1] / '.mim' / 'configs').resolve()
_NAME = re.compile(r'([\w.-]+?)_(\d+)xb(\d+)-(\d+)([ei])_([A-Za-z0-9-]+)')
_UNITS = {'e': 'epoch', 'i': 'iteration'}


@dataclass(frozen=True)
class ConfigName:
    """The parts of a config's name, ``[METHOD_]NETWORKS_GPUSxbBATCH-LENGTH_DATASET``.

    Attributes:
        method: As in 'hsakd-offline'; empty for a network that is trained alone.
        networks: As in ('wrn-40-2', 'wrn-16-2'): teacher and student, or those that teach each
            other, or one.
        gpus: Processes.
        batch: Images in a batch of one process.
        length: Of the schedule.
        unit: What the schedule counts, 'epoch' or 'iteration'.
        dataset: As in 'cifar100' or, with a part of the images, 'cifar100-25pct'.
    """

    method: str
    networks: tuple[str, ...]
    gpus: int
    batch: int
    length: int
    unit: str
    dataset: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The name at the start of a text, such as a folder's or a published file's; or None."""
        found = _NAME.match(text)
        if not found:
            return None
        before, gpus, batch, length, unit, dataset = found.groups()
        *method, last = before.split('_')
        return cls(
            method[0] if method else '',
            (*method[1:], last),
            int(gpus),
            int(batch),
            int(length),
            _UNITS[unit],
            without_hash(dataset),
        )

    def __str__(self) -> str:
        parts = [self.method] if self.method else []
        schedule = f'{self.gpus}xb{self.batch}-{self.length}{self.unit[0]}'
        return '_'.join([*parts, *self.networks, schedule, self.dataset])

    def baseline(self, network: int | None = None) -> str | None:
        """Name of the config that trains the same network alone, as long and on the same data.

        Args:
            network: Number of one of several networks that learn; by default the last one, the
                student.
        """
        one = network is None or len(self.networks) == 1
        if not self.method or not (one or network < len(self.networks)):
            return None
        chosen = self.networks[-1 if one else network]
        return str(replace(self, method='', networks=(chosen,)))


def without_hash(name: str) -> str:
    """A name without what publishing adds to that of a file."""
    return re.sub(r'-[0-9a-f]{8}$', '', name)


@cache
def all_configs(root: Path = CONFIGS) -> list[Path]:
    """The config files in a folder, at any depth."""
    return sorted(file for file in root.rglob('*.py') if '_base_' not in file.parts)


@cache
def find_configs(name: str, root: Path = CONFIGS) -> list[Path]:
    """The config files of a name in a folder, at any depth."""
    return sorted(file for file in root.rglob(f'{name}.py') if '_base_' not in file.parts)


def config_file(text: str) -> str:
    """The file that somebody means: one of that path, or of that name among those of hsakd.

    Args:
        text: A path; or a name, with or without folders and suffix, as in 'kd/kd_A_B_...'.

    Returns:
        Its path, or ``text`` where there is none.
    """
    if Path(text).is_file():
        return text
    parts = Path(text.removesuffix('.py')).parts
    found = [f for f in all_configs() if parts and f.with_suffix('').parts[-len(parts) :] == parts]
    return os.path.relpath(found[0]) if len(found) == 1 else text


def near_configs(text: str) -> list[str]:
    """Names of configs of hsakd that are like that of a file which is not there."""
    name = Path(text).name.removesuffix('.py')
    return difflib.get_close_matches(name, [file.stem for file in all_configs()])


def find_beside(config: Path, name: str) -> list[Path]:
    """The config files of a name that another one means.

    That in its own folder; those in its folder ``configs``, or else in a folder beside its own; or
    else, as for a config with ``_base_ = 'hsakd::...'``, those that come with hsakd.
    """
    parents = config.resolve().parents
    if (own := parents[0] / f'{name}.py').is_file():
        return [own]
    around = next((folder for folder in parents if folder.name == 'configs'), None)
    if around:
        found = find_configs(name, around)
    else:
        found = sorted(parents[1].glob(f'*/{name}.py'))
    return found or find_configs(name)

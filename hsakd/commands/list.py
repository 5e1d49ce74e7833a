"""List what comes with hsakd: methods (with papers), networks, configs.

hsakd list
hsakd list configs offline wrn-16-2
"""

import argparse
import os
from collections import Counter

from hsakd.results.names import CONFIGS, ConfigName, all_configs
from hsakd.utils.cli import tool_parser


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """What to list, and words that have to be in it."""
    parser = tool_parser(__doc__)
    kinds = ['all', 'methods', 'networks', 'configs']
    parser.add_argument('what', nargs='?', default='all', choices=kinds, help=' | '.join(kinds))
    parser.add_argument('words', nargs='*', metavar='WORD', help='only lines with all these words')
    return parser.parse_args(argv)


def methods() -> list[str]:
    """Folder, number of configs, and paper of each method."""
    from mmengine.fileio import load

    lines = []
    for file in sorted(CONFIGS.glob('*/metafile.yml')):
        content, folder = load(file), file.parent.name
        title = content['Collections'][0]['Paper']['Title']
        lines.append(f'{folder:15} {len(content["Models"]):3} configs  {title}')
    return lines


def networks() -> list[str]:
    """Each network that --student and --teacher take, and in how many configs it is."""
    from hsakd.apis.network_names import known_networks

    names = filter(None, (ConfigName.parse(file.stem) for file in all_configs()))
    count = Counter(network for name in names for network in {*name.networks})
    return [f'{name:20} {count[name]:3} configs' for name in known_networks()] + [
        f'{"timm/NAME":20} timm.list_models()',
        f'{"mmpretrain/NAME":20} mmpretrain.list_models()',
    ]


def configs() -> list[str]:
    """Names, which commands take."""
    return [file.stem for file in all_configs()]


def main(argv: list[str] | None = None) -> None:
    """Print it."""
    args = parse_args(argv)

    def show(lines: list[str]) -> None:
        print(*(line for line in lines if all(word in line for word in args.words)), sep='\n')

    if args.what != 'all':
        show({'methods': methods, 'networks': networks, 'configs': configs}[args.what]())
        return
    print('Methods, by folder:')
    show(methods())
    print('\nNetworks:')
    show(networks())
    print(
        f'\n{len(all_configs())} configs in {os.path.relpath(CONFIGS)}; '
        '`hsakd list configs WORD...` lists those with all words in their names.'
    )

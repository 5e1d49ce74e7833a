"""Print a script that completes commands, options and names of configs in a shell.

eval "$(hsakd completion bash)"       in ~/.bashrc
eval "$(hsakd completion zsh)"        in ~/.zshrc, after compinit
hsakd completion fish | source        in ~/.config/fish/config.fish
"""

import argparse
import contextlib
import io
import re
import shlex
from importlib import import_module

from hsakd.commands import COMMANDS
from hsakd.results.names import CONFIGS
from hsakd.utils.cli import tool_parser

#: Commands whose arguments are configs.
_OF_CONFIGS = 'train', 'test', 'distill', 'compare', 'flops', 'joint'

_BASH = r"""_hsakd() {
    local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} words=''
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        words='COMMANDS'
    elif [ "${word#-}" != "$word" ]; then
        case $command in
OPTIONS
        esac
    else
        case $command in
            list) words='methods networks configs' ;;
            completion) words='bash zsh fish' ;;
            OF_CONFIGS) words=$(NAMES) ;;
        esac
        COMPREPLY=($(compgen -f -- "$word"))
    fi
    COMPREPLY+=($(compgen -W "$words" -- "$word"))
}
complete -o filenames -F _hsakd hsakd
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The shell."""
    parser = tool_parser(__doc__)
    parser.add_argument('shell', choices=['bash', 'zsh', 'fish'])
    return parser.parse_args(argv)


def options_of(command: str) -> list[str]:
    """The options that the help of a command shows."""
    text = io.StringIO()
    for name in (command, 'distill_images') if command == 'distill' else (command,):
        module = import_module(f'hsakd.commands.{name.replace("-", "_")}')
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            module.parse_args(['--help'])
    return sorted({'--help', *re.findall(r'^ +(?:-\w, )?(--[\w-]+)', text.getvalue(), re.M)})


def main(argv: list[str] | None = None) -> None:
    """Print it; configs are looked for when names are completed, so that new ones are found."""
    shell = parse_args(argv).shell
    names = f"find {shlex.quote(str(CONFIGS))} -name _base_ -prune -o -name '*.py' -print"
    names += r" | sed 's|.*/||; s|\.py$||'"
    options = {command: options_of(command) for command in COMMANDS}
    if shell == 'fish':
        print(f"complete -c hsakd -n __fish_use_subcommand -xa '{' '.join(COMMANDS)}'")
        seen = "complete -c hsakd -n '__fish_seen_subcommand_from {}'"
        print(seen.format(' '.join(_OF_CONFIGS)), f'-a "({names})"')
        print(seen.format('list'), "-xa 'methods networks configs'")
        print(seen.format('completion'), "-xa 'bash zsh fish'")
        for command, found in options.items():
            print(seen.format(command), *(f'-l {option[2:]}' for option in found))
        return
    cases = [f"            {command}) words='{' '.join(o)}' ;;" for command, o in options.items()]
    script = _BASH.replace('OPTIONS', '\n'.join(cases)).replace('NAMES', names)
    script = script.replace('OF_CONFIGS', '|'.join(_OF_CONFIGS))
    if shell == 'zsh':
        print('autoload -U +X bashcompinit && bashcompinit')
    print(script.replace('COMMANDS', ' '.join(COMMANDS)), end='')

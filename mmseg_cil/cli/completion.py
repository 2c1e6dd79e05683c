"""Print the completion script of a shell: ``mmseg-cil completion SHELL``.

Bash and zsh: ``eval "$(mmseg-cil completion bash)"`` in ``~/.bashrc`` or ``~/.zshrc`` (with the
shell's name, after ``compinit``). Fish: ``mmseg-cil completion fish | source`` in its
``config.fish``. A script is made from the parsers as they are: commands, options, and the values of
an option that has choices or takes the name of a method or protocol; anything else is a path.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from mmseg_cil.cli.commands import COMMANDS, PROGRAM
from mmseg_cil.protocols import NAMED
from mmseg_cil.utils.cli import ToolParser
from mmseg_cil.utils.shipped import CONFIGS

SHELLS = ('bash', 'zsh', 'fish')


@dataclass(frozen=True)
class Option:
    """An option or argument that may follow a subcommand.

    Attributes:
        names: The names of the option; empty for a positional argument.
        help: The line of help.
        values: The values that it takes; empty: no value, or any value.
        takes_value: Whether a value follows the option.
    """

    names: tuple[str, ...]
    help: str
    values: tuple[str, ...]
    takes_value: bool


def make_parser(prog: str | None = None) -> ToolParser:
    """Return the parser of the command line."""
    parser = ToolParser(prog=prog, description='Print the completion script of a shell.')
    parser.add_argument('shell', choices=SHELLS)
    return parser


def run(args: argparse.Namespace) -> None:
    """Print the script."""
    writers = {'bash': bash_script, 'zsh': zsh_script, 'fish': fish_script}
    print(writers[args.shell]())


def options_of(name: str) -> list[Option]:
    """Return the options of a subcommand, without those that its help hides.

    Args:
        name: Name of the subcommand.
    """
    actions = COMMANDS[name].make_parser(f'{PROGRAM} {name}')._actions
    return [
        Option(
            tuple(action.option_strings),
            (action.help or '').replace('\n', ' '),
            _values(name, action),
            action.nargs != 0,
        )
        for action in actions
        if action.help != argparse.SUPPRESS
    ]


def _values(command: str, action: argparse.Action) -> tuple[str, ...]:
    if action.choices is not None:
        return tuple(map(str, action.choices))
    kind = action.dest.removesuffix('s')
    if kind == 'protocol' or (command, kind) == ('protocols', 'name'):
        return tuple(NAMED)
    if kind not in ('method', 'model', 'dataset', 'schedule'):
        return ()
    return tuple(sorted(path.stem for path in (CONFIGS / '_base_' / f'{kind}s').glob('*.py')))


def bash_script() -> str:
    """Return the script of bash."""
    body = '\n'.join(_cases('        ', 'words="{}"'))
    return f"""_mmseg_cil() {{
    local words='' command="${{COMP_WORDS[1]}}" previous="${{COMP_WORDS[COMP_CWORD - 1]}}"
    if ((COMP_CWORD == 1)); then
        words="{' '.join([*COMMANDS, '--help', '--version'])}"
    else
        case "$command $previous" in
{body}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -o bashdefault -F _mmseg_cil {PROGRAM}"""


def zsh_script() -> str:
    """Return the script of zsh."""
    body = '\n'.join(_cases('        ', 'found=({})'))
    told = ' '.join(_quoted(f'{name}:{command.help}') for name, command in COMMANDS.items())
    return f"""#compdef {PROGRAM}
_mmseg_cil() {{
    local -a found
    if ((CURRENT == 2)); then
        found=({told})
        _describe 'command' found
        return
    fi
    case "${{words[2]}} ${{words[CURRENT - 1]}}" in
{body}
    esac
    compadd -a found
    [[ "${{words[CURRENT]}}" == -* ]] || _files
}}
compdef _mmseg_cil {PROGRAM}"""


def fish_script() -> str:
    """Return the script of fish."""
    lines = [
        f'complete -c {PROGRAM} -n __fish_use_subcommand -f -a {name} -d {_quoted(command.help)}'
        for name, command in COMMANDS.items()
    ]
    for name in COMMANDS:
        there = f"complete -c {PROGRAM} -n '__fish_seen_subcommand_from {name}'"
        for option in options_of(name):
            flags = [
                f'-l {text[2:]}' if text.startswith('--') else f'-s {text[1:]}'
                for text in option.names
            ]
            if option.values:
                flags.append(
                    f'-{"x" if option.names else "f"} -a {_quoted(" ".join(option.values))}'
                )
            elif option.takes_value and option.names:
                flags.append('-r')
            if flags:
                lines.append(' '.join([there, *flags, '-d', _quoted(option.help)]))
    return '\n'.join(lines)


def _cases(indent: str, line: str) -> Iterator[str]:
    """Yield the lines of a ``case`` over ``COMMAND PREVIOUS_WORD``.

    A line offers the values of an option, or else all options.
    """
    for name in COMMANDS:
        options = options_of(name)
        for option in options:
            if option.names and option.values:
                words = ' | '.join(f'"{name} {text}"' for text in option.names)
                yield f'{indent}{words}) {line.format(" ".join(option.values))} ;;'
        rest = [text for option in options for text in option.names or option.values]
        yield f'{indent}"{name} "*) {line.format(" ".join(rest))} ;;'


def _quoted(text: str) -> str:
    """Return a text in single quotes, as all three shells read it."""
    return "'" + text.replace("'", '').replace('\\', '') + "'"

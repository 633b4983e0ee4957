"""The console script `scopevit`.

It stands beside the package: help and version need none of it, and a command imports what it uses.
"""

import argparse
import ast
import runpy
import sys
from importlib import import_module
from pathlib import Path

PACKAGE = Path(__file__).parent / 'scopevit'
# Each has the first line of its docstring as help, `EXAMPLE`, `add_arguments` and `run`.
COMMANDS = {
    'new': 'scopevit.commands.new',
    'check': 'scopevit.commands.check',
    'train': 'scopevit.commands.train',
    'test': 'scopevit.commands.test',
    'predict': 'scopevit.commands.predict',
    'export': 'scopevit.commands.export',
    'info': 'scopevit.commands.info',
}


def main(argv: list[str] | None = None) -> int:
    """Runs a command; the arguments are by default those of the process.

    Returns:
        The exit code: that of the command, 0 unless it says otherwise, or 1 for bad input.
    """
    parser = argparse.ArgumentParser(
        prog='scopevit',
        description='ScopeViT for classification, detection, segmentation and pose.',
        epilog=list_commands(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = runpy.run_path(str(PACKAGE / 'version.py'))['__version__']
    parser.add_argument('--version', action='version', version=f'scopevit {version}')
    parser.add_argument('command', choices=COMMANDS, metavar='COMMAND', help='one of those below')
    parser.add_argument(
        'arguments',
        nargs=argparse.REMAINDER,
        metavar='...',
        help="the command's own; COMMAND --help lists them",
    )
    args = parser.parse_args(argv)

    from scopevit.cli import parse_command, run_tool

    command = import_module(COMMANDS[args.command])
    prog = f'scopevit {args.command}'
    return run_tool(lambda argv: command.run(parse_command(command, argv, prog)), args.arguments)


def list_commands() -> str:
    """Returns the names of the commands and what each does, by their docstrings."""
    lines = ['commands:']
    for name, module in COMMANDS.items():
        path = PACKAGE.joinpath(*module.split('.')[1:]).with_suffix('.py')
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
        lines.append(f'  {name:10}{"".join(docstring.splitlines()[:1])}')
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(main())

"""What the command lines of `tools/train.py` and `tools/test.py` have in common."""

import argparse
import os
import sys
from collections.abc import Callable

from mmengine.config import DictAction

from scopevit.errors import InputError


class ConfigOptions(DictAction):
    """Reads KEY=VALUE pairs; those that do not parse are an `InputError`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: list[str],
        option_string: str | None = None,
    ) -> None:
        for pair in values:
            key, equals, value = pair.partition('=')
            if not equals or not all(key.split('.')):
                raise InputError(f'--cfg-options takes KEY=VALUE pairs, not {pair!r}')
            if value.count('(') != value.count(')') or value.count('[') != value.count(']'):
                raise InputError(f'--cfg-options: brackets do not match in {pair!r}')
        try:
            super().__call__(parser, namespace, values, option_string)
        except RecursionError as error:  # mmengine takes dict(...) apart without end
            raise InputError(
                f'--cfg-options takes numbers, names, lists and tuples, not {" ".join(values)!r}; '
                'the keys of a dict are set one by one, as in a.b=1'
            ) from error


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that both tools take."""
    parser.add_argument('--work-dir', help='default: work_dirs/<name of the config>')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        metavar='KEY=VALUE',
        help='settings of the config to change, e.g. train_dataloader.batch_size=4 '
        'or key="[(a,b),(c,d)]"',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torch.distributed.launch passes one of the two spellings; torchrun passes none.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def parse_arguments(
    parser: argparse.ArgumentParser, argv: list[str] | None = None
) -> argparse.Namespace:
    """Parses the arguments of a tool, and passes a local rank on as mmengine reads it."""
    args = parser.parse_args(argv)
    if args.launcher != 'none':
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def run_tool(tool: Callable[[list[str] | None], None], argv: list[str] | None = None) -> int:
    """Runs a tool; prints bad input as one line and everything else as Python does.

    Args:
        tool: Parses the arguments and does the work.
        argv: Arguments; those of the process by default.

    Returns:
        Exit code of the process: 0, or 1 for bad input.
    """
    try:
        tool(argv)
    except InputError as error:
        # The traceback behind the line, for those who look for a bug.
        if os.environ.get('SCOPEVIT_DEBUG', '0') != '0':
            raise
        print(f'error: {" ".join(str(error).split())}', file=sys.stderr)
        return 1
    return 0

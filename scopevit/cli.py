"""What the command lines of all tools have in common."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from scopevit.errors import INTERRUPTED, InputError, Stopped, error_text
from scopevit.launched import note_stop


class PositiveInt(argparse.Action):
    """Reads whole numbers above 0, several as a tuple; anything else is an `InputError`.

    (argparse ends the process by itself for what a `type` refuses.)
    """

    number: type = int
    kind = 'a whole number'

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[str] | None,
        option_string: str | None = None,
    ) -> None:
        texts = [values] if isinstance(values, str) else values or []
        numbers = tuple(self.read(text) for text in texts)
        setattr(namespace, self.dest, numbers[0] if isinstance(values, str) else numbers)

    def read(self, text: str) -> int | float:
        """Returns the number of a text."""
        try:
            value = self.number(text)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise InputError(f'{self.option_strings[0]} takes {self.kind} above 0, not {text!r}')
        return value


class PositiveFloat(PositiveInt):
    """Reads numbers above 0; anything else is an `InputError`."""

    number = float
    kind = 'a number'


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--cfg-options KEY=VALUE ...`."""
    from scopevit.config_options import ConfigOptions  # imports mmengine

    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        metavar='KEY=VALUE',
        help='settings of the config to change, e.g. train_dataloader.batch_size=4 '
        'or key="[(a,b),(c,d)]"',
    )


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that training and testing take."""
    parser.add_argument('--work-dir', help='default: work_dirs/<name of the config>')
    add_config_options(parser)
    parser.add_argument(
        '--trust-pickles',
        action='store_true',
        help='read annotations and proposals that are pickles, which may run code',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torch.distributed.launch passes one of the two spellings; torchrun passes none.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def add_shape_argument(
    parser: argparse.ArgumentParser, default: str = "the recipe's, or that of timm's model"
) -> None:
    """Adds `--shape HEIGHT WIDTH`; `default` says what counts without it."""
    parser.add_argument(
        '--shape',
        nargs=2,
        action=PositiveInt,
        metavar=('HEIGHT', 'WIDTH'),
        help=f'size of the images in pixels; default: {default}',
    )


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--device`."""
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu', help='default: cpu')


def set_local_rank(args: argparse.Namespace) -> None:
    """Passes the local rank of `add_common_arguments` on as mmengine reads it."""
    if args.launcher != 'none':
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))


def parse_command(
    command: ModuleType, argv: list[str] | None = None, prog: str | None = None
) -> argparse.Namespace:
    """Parses the arguments of a module of `scopevit.commands`, by default those of the process."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=(command.__doc__ or '').partition('\n')[0],
        epilog=f'example: {command.EXAMPLE}',
    )
    command.add_arguments(parser)
    return parser.parse_args(argv)


def run_tool(tool: Callable[[list[str] | None], int | None], argv: list[str] | None = None) -> int:
    """Runs a tool; prints bad input as one line and everything else as Python does.

    The arguments are by default those of the process, whose exit code is returned: that of the
    tool, 0 where it has none, 1 for bad input, or that of a training that a signal has ended.
    """
    try:
        return tool(argv) or 0
    except InputError as error:
        # The traceback behind the line, for those who look for a bug.
        if os.environ.get('SCOPEVIT_DEBUG', '0') != '0':
            raise
        print(f'error: {error_text(error)}', file=sys.stderr)
        return 1
    except Stopped as stopped:
        if os.environ.get('RANK', '0') == '0':  # the process group is gone by now
            print(stopped, file=sys.stderr)
        note_stop(stopped.code)
        return stopped.code
    except KeyboardInterrupt:
        print('stopped', file=sys.stderr)
        note_stop(INTERRUPTED)
        return INTERRUPTED

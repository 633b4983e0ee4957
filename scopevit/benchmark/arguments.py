"""Arguments that the tools of `tools/benchmark` have in common."""

import argparse
import math

from scopevit.errors import InputError


class PositiveInt(argparse.Action):
    """Reads whole numbers above 0, several as a tuple; anything else is an `InputError`.

    (argparse ends the process by itself for what a `type` refuses.)
    """

    number, kind = int, 'a whole number'

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | list[str],
        option_string: str | None = None,
    ) -> None:
        numbers = tuple(self.read(v) for v in ([values] if isinstance(values, str) else values))
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

    number, kind = float, 'a number'


def add_shape_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--shape HEIGHT WIDTH`."""
    parser.add_argument(
        '--shape',
        nargs=2,
        action=PositiveInt,
        metavar=('HEIGHT', 'WIDTH'),
        help="size of the images in pixels; default: the recipe's, or that of timm's model",
    )


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--device`."""
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu', help='default: cpu')

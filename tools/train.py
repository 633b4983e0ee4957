"""Trains the model of a config: `scopevit train`, in a clone or by a launcher.

    python tools/train.py CONFIG [--work-dir DIR] [--pretrained CHECKPOINT] [--resume] [--amp] ...

A CHECKPOINT is a file or a URL. The config's `default_scope` says which library runs it. With
`SCOPEVIT_DEBUG=1` in the environment, an error shows its whole traceback.
"""

import sys

from scopevit.cli import parse_command, run_tool
from scopevit.commands import train


def main(argv: list[str] | None = None) -> None:
    train.run(parse_command(train, argv))


if __name__ == '__main__':
    sys.exit(run_tool(main))

"""Tests a checkpoint and writes metrics.json to the work dir: `scopevit test`, in a clone.

    python tools/test.py CONFIG CHECKPOINT [--work-dir DIR] [--out PREDICTIONS.pkl] [--tta] ...

The config's `default_scope` says which library runs it. With `SCOPEVIT_DEBUG=1` in the environment,
an error shows its whole traceback.
"""

import sys

from scopevit.cli import parse_command, run_tool
from scopevit.commands import test


def main(argv: list[str] | None = None) -> None:
    test.run(parse_command(test, argv))


if __name__ == '__main__':
    sys.exit(run_tool(main))

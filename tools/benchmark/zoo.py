"""Writes measured parameters, multiply-adds and metrics into the READMEs and metafiles of configs.

    python tools/benchmark/zoo.py [--work-dirs DIR] [--check]

Every recipe is built and counted, on the CPU and without data. Metrics come from the metrics.json
files that tools/test.py wrote; a recipe without any is "not trained yet".
"""

import argparse
import sys
from pathlib import Path

from scopevit.benchmark.zoo import describe_zoo
from scopevit.cli import run_tool
from scopevit.errors import InputError
from scopevit.files import write_text

ROOT = Path(__file__).parents[2]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work-dirs', type=Path, help='folder with metrics.json files')
    parser.add_argument('--check', action='store_true', help='write nothing, fail if it would')
    args = parser.parse_args(argv)
    texts = describe_zoo(ROOT, args.work_dirs)
    outdated = [
        path
        for path, text in texts.items()
        if not path.is_file() or path.read_text(encoding='utf-8') != text
    ]
    if args.check and outdated:
        names = ', '.join(str(path.relative_to(ROOT)) for path in outdated)
        raise InputError(f'not what the recipes measure now: {names}; run {Path(__file__).name}')
    for path in outdated:
        write_text(path, texts[path])
        print(f'wrote {path.relative_to(ROOT)}')


if __name__ == '__main__':
    sys.exit(run_tool(main))

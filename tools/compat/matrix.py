"""Write what tools/compat/matrix.sh found as a table of docs/compatibility.md, and as JSON."""

import argparse
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from scopevit.benchmark.pages import page_with
from scopevit.cli import run_tool
from scopevit.errors import InputError
from scopevit.files import write_json, write_text
from scopevit.report import markdown_table

PAGE = Path(__file__).parents[2] / 'docs' / 'compatibility.md'
BEGIN, END = '<!-- begin: tools/compat/matrix.sh -->', '<!-- end: tools/compat/matrix.sh -->'
PYTHONS = ('3.10', '3.11', '3.12', '3.13', '3.14')
TORCHES = ('2.6', '2.8', 'newest')
LIBRARIES = ('upstream', 'forks')
OUTCOMES = ('failures', 'errors', 'skipped')


def read_cell(folder: Path) -> dict[str, Any]:
    """Returns what was found in an environment.

    Args:
        folder: With `log`, and as far as it came: `seconds` of the steps, `packages.json` of pip,
            `check.json` of `python -m scopevit.compat`, `tests.xml` of pytest.

    Returns:
        `seconds` by step, `versions` by package, what is `broken`, the counts of `tests`; or the
        `reason` for which there are none.
    """
    cell: dict[str, Any] = {}
    if (folder / 'seconds').exists():
        rows = [line.split() for line in (folder / 'seconds').read_text().splitlines()]
        cell['seconds'] = {step: int(seconds) for step, seconds in rows}
    if (folder / 'packages.json').exists():
        packages = json.loads((folder / 'packages.json').read_text())
        cell['versions'] = {package['name']: package['version'] for package in packages}
    check = folder / 'check.json'
    if check.exists() and check.stat().st_size:
        cell['broken'] = json.loads(check.read_text())['broken']
    if (folder / 'tests.xml').exists():
        suite = ElementTree.parse(folder / 'tests.xml').getroot().find('testsuite')
        cell['tests'] = count_tests(suite.attrib if suite is not None else {})
    else:
        cell['reason'] = last_error((folder / 'log').read_text(errors='replace'))
    return cell


def count_tests(suite: dict[str, str]) -> dict[str, int]:
    """Returns how many tests passed, failed and were skipped, of the totals of pytest."""
    failures, errors, skipped = (int(suite.get(name, 0)) for name in OUTCOMES)
    failed = failures + errors
    passed = int(suite.get('tests', 0)) - failed - skipped
    return {'passed': passed, 'failed': failed, 'skipped': skipped}


def last_error(log: str) -> str:
    """Returns the last line of a log that says what is wrong, or else the last."""
    lines = [line.strip() for line in log.splitlines() if line.strip()] or ['nothing was written']
    errors = [line for line in lines if re.match(r'(error|ERROR|fatal|\w*Error)\b', line)]
    # pip's last line repeats the one before in fewer words
    told = [line for line in errors if 'No matching distribution' not in line]
    return re.sub(r'^(error|ERROR): ', '', (told or errors or lines)[-1])


def make_table(cells: dict[str, dict[str, Any]]) -> str:
    """Returns the table of all environments, by `<Python>_<torch>_<libraries>`."""
    rows = []
    for python in PYTHONS:
        for torch in TORCHES:
            for libraries in LIBRARIES:
                cell = cells.get(f'{python}_{torch}_{libraries}', {})
                rows.append([python, torch, libraries, *describe_cell(cell)])
    columns = ['Python', 'torch', 'libraries', 'installed', 'tests', 'set-up beyond torch']
    return markdown_table(columns, rows, 'lllllr')


def describe_cell(cell: dict[str, Any]) -> list[str]:
    """Returns what was installed in an environment, its tests, and the minutes of its set-up."""
    if not cell:
        return ['', 'not run', '']
    versions = cell.get('versions', {})
    mmcv = [name for name in versions if re.fullmatch(r'(onedl-)?mmcv(-lite)?', name)]
    installed = [f'{name} {versions[name]}' for name in ('torch', 'numpy', *mmcv) if versions]
    if 'tests' not in cell:
        return [', '.join(installed), f'cannot be had: {cell["reason"]}', '']
    tests = [f'{number} {outcome}' for outcome, number in cell['tests'].items() if number]
    broken = [f'broken: {line}' for line in cell.get('broken', [])]
    minutes = f'{cell["seconds"]["rest"] / 60:.1f} min'
    return [', '.join(installed), '; '.join([', '.join(tests), *broken]), minutes]


def main(argv: list[str] | None = None) -> None:
    """Reads all cells, and writes `matrix.json` beside them and the table into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path, help='of tools/compat/matrix.sh: work_dirs/matrix')
    parser.add_argument('--page', type=Path, default=PAGE, help='default: docs/compatibility.md')
    args = parser.parse_args(argv)
    done = sorted(args.folder.glob('*/done'))
    if not done:
        raise InputError(f'{args.folder}: no environment has been tested there')
    cells = {path.parent.name: read_cell(path.parent) for path in done}
    write_json(args.folder / 'matrix.json', cells)
    write_text(args.page, page_with(str(args.page), BEGIN, END, make_table(cells)))


if __name__ == '__main__':
    raise SystemExit(run_tool(main))

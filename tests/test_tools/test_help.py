"""Every tool can be started, and tells its options."""

from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / 'tools'
NAMES = [
    str(path.relative_to(TOOLS).with_suffix(''))
    for path in sorted(TOOLS.rglob('*.py'))
    if 'run_tool(main)' in path.read_text()
]


def test_tools_are_found():
    assert {'train', 'benchmark/reliability_cost', 'compat/zoo', 'gpu/check'} <= set(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_help(name, load_main, capsys, monkeypatch):
    monkeypatch.syspath_prepend((TOOLS / name).parent)  # as Python does for a script
    with pytest.raises(SystemExit) as ended:
        load_main(name)(['--help'])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith('usage: ') and '--help' in shown

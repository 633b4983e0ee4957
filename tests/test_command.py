"""The console script: what it prints, how it ends, and that its help waits for nothing."""

import argparse
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

import scopevit
from scopevit.cli import parse_command
from scopevit.engine.logs import VIS_BACKENDS
from scopevit.errors import InputError
from scopevit.hub import config_path
from scopevit_command import COMMANDS, main


def ends_in(capsys, *argv: str) -> tuple[int, str, str]:
    """Runs the script where argparse ends the process: exit code and what was printed."""
    with pytest.raises(SystemExit) as error:
        main(list(argv))
    return (error.value.code, *capsys.readouterr())


@pytest.mark.parametrize('option', ['--help', '--version'])
def test_help_and_version_import_neither_torch_nor_the_package(option, process):
    done = process('-X', 'importtime', 'scopevit_command.py', option)
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition('|')[2].strip() for line in done.stderr.splitlines()}
    assert 'argparse' in imported
    assert not imported & {'torch', 'numpy', 'mmengine', 'scopevit'}


def test_version(capsys):
    assert ends_in(capsys, '--version') == (0, f'scopevit {scopevit.__version__}\n', '')


def test_help_lists_the_commands(capsys):
    code, out, _ = ends_in(capsys, '--help')
    assert code == 0
    assert '\n  train     Train the model of a config.\n' in out
    listed = out.partition('\ncommands:\n')[2].splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    assert all(len(line.split()) > 3 for line in listed)


@pytest.mark.parametrize('name', COMMANDS)
def test_help_of_a_command_has_an_example_that_can_be_run(name, capsys):
    code, out, _ = ends_in(capsys, name, '--help')
    command = import_module(COMMANDS[name])
    assert code == 0 and out.startswith(f'usage: scopevit {name} ')
    assert f'example: {command.EXAMPLE}' in ' '.join(out.split())
    script, named, *arguments = shlex.split(command.EXAMPLE)
    assert (script, named) == ('scopevit', name)
    args = parse_command(command, arguments)
    config = getattr(args, 'config', None)
    assert config is None or config_path(config).is_file()


def test_what_argparse_refuses_ends_in_2(capsys):
    code, _, err = ends_in(capsys, 'trian')
    assert code == 2 and "invalid choice: 'trian' (choose from" in err
    assert ends_in(capsys)[0] == 2
    assert ends_in(capsys, 'train', 'config.py', '--no-such-option')[0] == 2


def test_bad_input_is_one_line_and_ends_in_1(capsys):
    assert main(['train', 'none.py']) == 1
    assert capsys.readouterr().err == 'error: config not found: none.py\n'


@pytest.mark.parametrize('command', [['train'], ['test', 'weights.pth']])
def test_wrong_name_of_a_config_has_a_hint(command, capsys):
    assert main([command[0], 'scopevit-tiny_8xb128_in1', *command[1:]]) == 1
    line = capsys.readouterr().err
    assert line.startswith('error: no config scopevit-tiny_8xb128_in1; did you mean ')
    assert ' scopevit-tiny_8xb128_in1k, ' in line


def test_config_by_name_or_by_file(tmp_path, monkeypatch):
    found = config_path('scopevit-tiny_8xb128_in1k')
    assert found.parts[-2:] == ('classification', 'scopevit-tiny_8xb128_in1k.py')
    assert config_path('classification/scopevit-tiny_8xb128_in1k') == found
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / 'scopevit-tiny_8xb128_in1k'  # a file that is there comes first
    mine.touch()
    assert config_path(mine.name).resolve() == mine
    assert str(config_path('mine/of_no_suffix.py')) == 'mine/of_no_suffix.py'
    with pytest.raises(InputError, match='no config mine/of_no_suffix; '):
        config_path('mine/of_no_suffix')


def test_options_reach_the_training(monkeypatch):
    given = {}
    monkeypatch.setattr('scopevit.commands.train.train', lambda config, **o: given.update(o))
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    assert main(['train', 'scopevit-tiny_8xb128_in1k', '--amp', '--resume', '--no-validate']) == 0
    assert given['amp'] and given['resume'] == 'auto' and not given['validate']


def test_module_is_the_same_script(process):
    done = process('-m', 'scopevit', '--version')
    assert (done.returncode, done.stdout) == (0, f'scopevit {scopevit.__version__}\n')


PAGE = (Path(__file__).parents[1] / 'docs' / 'command.md').read_text()
SECTIONS = dict(re.findall(r'^## scopevit (\w+)\n(.*?)(?=^## |\Z)', PAGE, re.MULTILINE | re.DOTALL))


def test_page_lists_the_commands():
    assert set(SECTIONS) <= set(COMMANDS)
    assert set(re.findall(r'^\| `scopevit (\w+)', PAGE, re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize('name', SECTIONS)
def test_page_has_the_options_of_a_command(name):
    parser = argparse.ArgumentParser(add_help=False)
    import_module(COMMANDS[name]).add_arguments(parser)
    # torch's launchers pass the other spelling
    known = {option for action in parser._actions for option in action.option_strings}
    rows = re.findall(r'^\| (`--.*?) \|', SECTIONS[name], re.MULTILINE)
    told = set(re.findall(r'`(--[\w-]+)', ' '.join(rows) if rows else SECTIONS[name]))
    assert told == known - {'--local_rank'}


def test_page_names_the_packages_of_the_logs():
    needed = (Path(__file__).parents[1] / 'requirements' / 'logging.txt').read_text().splitlines()
    told = set(re.findall(r'^\| `\w+` \| `pip install (\w+)`', PAGE, re.MULTILINE))
    assert told == {line for line in needed if not line.startswith('#')} == set(VIS_BACKENDS)

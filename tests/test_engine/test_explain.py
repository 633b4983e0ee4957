"""Which errors are those of the input."""

import pytest
from mmengine.config import ConfigDict
from mmengine.registry import MODELS

from scopevit import cli
from scopevit.engine.explain import input_errors
from scopevit.errors import InputError


@pytest.mark.parametrize(
    'error', [AttributeError('a'), TypeError('a'), ValueError('b'), KeyError('c'), RuntimeError()]
)
def test_other_errors_pass_as_they_are(error):
    with pytest.raises(type(error)) as caught, input_errors('config.py'):
        raise error
    assert caught.value is error


def test_a_key_that_a_part_of_a_config_lacks_is_named():
    message = r'^a\.py: a part of the config has no nms'
    with pytest.raises(InputError, match=message), input_errors('a.py'):
        print(ConfigDict(rcnn=dict()).rcnn.nms)


class Part:
    """Something to build that does not take what it is given."""

    def __init__(self, error: Exception) -> None:
        raise error


@pytest.mark.parametrize(
    ('error', 'said'),
    [
        (ValueError('a'), 'Part: a'),
        (AssertionError('a'), 'Part: AssertionError: a'),
        (AttributeError('a'), 'Part: AttributeError: a'),
        (IndexError('a'), 'Part: IndexError: a'),
        (RuntimeError('a\nb'), 'Part: RuntimeError: a'),
        (ZeroDivisionError('a'), 'Part: ZeroDivisionError: a'),
    ],
)
def test_an_error_of_what_is_built_names_it(error, said):
    with pytest.raises(InputError) as caught, input_errors('config.py'):
        MODELS.build(dict(type=Part, error=error))
    assert str(caught.value) == f'config.py: {said}'


OWN_CODE = """
from torch import nn

def halve(width):
    return width // 2

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        if width < 1:
            raise ValueError('width must be at least 1')
        self.layer = nn.Linear(halve(width), 1)

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        if width == 7:
            raise ValueError('width must not be 7')
        self.block = Block(width)
        self.norm = nn.LayerNorm(width, epsilon=1e-5)

class Root(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.roots = [1 / (width - 4)]
        self.layer = nn.MultiheadAttention(3, 2)
"""


@pytest.mark.parametrize(
    ('kind', 'width', 'said'),
    [
        # In the user's own code, or in what that calls.
        ('Net', [4], 'Net: \'<\' not supported between instances of \'list\' and \'int\' '
                     '({path}:10, in __init__; '),
        ('Net', '4', 'Net: \'<\' not supported between instances of \'str\' and \'int\' '
                     '({path}:10, in __init__; '),
        ('Net', 0, 'Net: width must be at least 1 ({path}:11, in __init__; '),
        ('Net', 4, 'LayerNorm.__init__() got an unexpected keyword argument \'epsilon\' '
                   '({path}:20, in __init__; '),
        ('Root', 4, 'Root: ZeroDivisionError: division by zero ({path}:25, in __init__; '),
        ('Root', 5, 'Root: AssertionError: embed_dim must be divisible by num_heads '
                    '({path}:26, in __init__; '),
        ('halve', 'a', 'halve: unsupported operand type(s) for //: \'str\' and \'int\' '
                       '({path}:5, in halve; '),
        # Of what it is given.
        ('Net', 7, 'Net: width must not be 7'),
    ],
)  # fmt: skip
def test_an_error_in_own_code_says_where(kind, width, said, tmp_path):
    path = tmp_path / 'net.py'
    path.write_text(OWN_CODE)
    names = {}
    exec(compile(OWN_CODE, path, 'exec'), names)
    with pytest.raises(InputError) as caught, input_errors('config.py'):
        MODELS.build(dict(type=names[kind], width=width))
    said = said.format(path=path)
    end = 'SCOPEVIT_DEBUG=1 shows the traceback)' if said.endswith('; ') else ''
    assert str(caught.value) == f'config.py: {said}{end}'


def test_arguments_that_own_code_does_not_take():
    class Net:
        def __init__(self, width):
            pass

    with pytest.raises(InputError) as caught, input_errors('config.py'):
        MODELS.build(dict(type=Net, with_=1))
    name = f'{Net.__qualname__}.__init__()'
    assert str(caught.value) == f"config.py: {name} got an unexpected keyword argument 'with_'"


@pytest.mark.parametrize('cfg', [5, 'ResNet', ('ResNet',)])
def test_a_part_that_is_no_config(cfg):
    message = '^config.py: cfg should be a dict'
    with pytest.raises(InputError, match=message), input_errors('config.py'):
        MODELS.build(cfg)


@pytest.mark.parametrize('kind', [5, ''])
def test_a_type_that_is_none(kind):
    with pytest.raises(InputError, match='^config.py: '), input_errors('config.py'):
        MODELS.build(dict(type=kind))


def test_error_of_a_loading_process_is_its_last_line():
    message = (
        'Caught InputError in DataLoader worker process 0.\nOriginal Traceback (most recent call '
        'last):\n  File "a.py", line 1\nOSError: b\n\nThe above exception was the direct cause of '
        'the following exception:\n\nscopevit.errors.InputError: cannot load b.jpg: no image\n'
    )
    with pytest.raises(InputError) as caught, input_errors('config.py'):
        raise InputError(message)
    assert str(caught.value).strip() == 'cannot load b.jpg: no image'


def test_tool_with_a_bug_shows_its_traceback():
    def tool(argv: list[str] | None) -> None:
        raise TypeError('a bug')

    with pytest.raises(TypeError, match='a bug'):
        cli.run_tool(tool)


def test_a_long_line_keeps_its_ends(capsys):
    def tool(argv: list[str] | None) -> None:
        raise InputError(f'a.json: not {"x" * 5000}; write a list')

    assert cli.run_tool(tool) == 1
    line = capsys.readouterr().err
    assert line.startswith('error: a.json: not xxx') and line.endswith('xxx; write a list\n')
    assert ' ... ' in line and len(line) < 1000

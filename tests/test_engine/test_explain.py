"""Which errors are those of the input."""

import pytest
from mmengine.config import ConfigDict

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

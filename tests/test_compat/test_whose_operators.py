"""Whose the operators of mmcv are that `scopevit info` lists."""

import sys
from types import SimpleNamespace

import pytest

from scopevit.compat import operators

SOURCE = """
from functools import lru_cache, wraps
from statistics import mean as roi_align  # what it imports from elsewhere is not followed

def torchvision_operators(): ...
def nms(boxes):
    return torchvision_operators().nms(boxes)
def through(boxes): return again(boxes, 1) + nms(boxes)
def again(boxes, depth): return again(boxes, depth - 1)
def inside(boxes): return [(lambda box: torchvision_operators().nms(box))(box) for box in boxes]
@wraps(nms)
def wrapped(boxes): return 0
class Function:
    @staticmethod
    def forward(boxes): return nms(boxes)
def by_class(boxes): return Function.forward(boxes)
def plain(boxes): return again(boxes, roi_align([1, 2]))
def __getattr__(name):
    return plain
"""
OF_TORCHVISION = ['by_class', 'inside', 'nms', 'through', 'wrapped']


@pytest.fixture
def extension(monkeypatch):
    """A function that puts a made-up extension in the place of `mmcv._ext`."""

    def replace(file):
        module = SimpleNamespace(__file__=file)
        exec(SOURCE, vars(module) | {'__name__': 'mmcv._ext'}, vars(module))
        for value in vars(module).values():  # one namespace, as of a module
            getattr(value, '__globals__', {}).update(vars(module))
        monkeypatch.setitem(sys.modules, 'mmcv._ext', module)
        monkeypatch.setattr(
            operators, 'asked_for', lambda: sorted([*OF_TORCHVISION, 'again', 'carafe', 'plain'])
        )

    return replace


def test_stand_ins(extension):
    extension('/standins/mmcv_ext/__init__.py')
    found = operators.describe_operators()
    assert found['compiled'] is False
    assert found['torchvision'] == OF_TORCHVISION
    assert found['torch'] == ['again', 'plain'] and found['missing'] == ['carafe']
    assert operators.operators_text(found) == (
        'not compiled; of torchvision: by_class, inside, nms, through, wrapped; '
        'of torch: again, plain; missing: carafe'
    )


def test_compiled(extension):
    extension('/site-packages/mmcv/_ext.so')
    found = operators.describe_operators()
    assert found['compiled'] is True and found['missing'] == ['carafe']
    assert found['torchvision'] == found['torch'] == []
    assert operators.operators_text(found) == 'compiled, /site-packages/mmcv/_ext.so'


def test_of_the_stand_in_itself():
    found = operators.describe_operators()
    if found['compiled']:
        pytest.skip('mmcv is compiled')
    assert {'nms', 'roi_align_forward', 'roi_align_backward'} <= set(found['torchvision'])
    assert {'softnms', 'sigmoid_focal_loss_forward'} <= set(found['torch'])


def test_asked_for():
    names = operators.asked_for()
    assert {'nms', 'carafe_forward', 'psamask_backward', 'upfirdn2d'} <= set(names)
    assert not [name for name in names if 'compil' in name]
    assert len(names) == len(set(names)) > 100

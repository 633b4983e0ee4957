"""mmengine finds installed packages without setuptools' pkg_resources."""

import sys
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path

import mmdet
import mmseg
import pytest
from mmengine.config import Config
from mmengine.utils import get_installed_path, is_installed

from scopevit import compat

ROOT = Path(__file__).parents[2]


class WithoutPkgResources(PathFinder):
    """Finds every module, and distribution, as usual but the real pkg_resources."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname.split('.')[0] == 'pkg_resources':
            return None
        return PathFinder.find_spec(fullname, path, target)


@pytest.fixture
def blocked(monkeypatch):
    finders = [WithoutPkgResources if f is PathFinder else f for f in sys.meta_path]
    monkeypatch.setattr(sys, 'meta_path', finders)
    saved = {m: sys.modules.pop(m) for m in list(sys.modules) if m.startswith('pkg_resources')}
    compat.apply()
    yield
    sys.modules.pop('pkg_resources', None)
    sys.modules.update(saved)


def test_stand_in(blocked):
    import pkg_resources

    assert 'standins' in pkg_resources.__file__
    numpy = pkg_resources.get_distribution('numpy')
    assert numpy.version == metadata.version('numpy')
    assert (Path(numpy.location) / 'numpy' / '__init__.py').is_file()
    assert numpy.has_metadata('METADATA') and not numpy.has_metadata('no_such_file')
    assert numpy.get_metadata('METADATA').startswith('Metadata-Version')
    with pytest.raises(FileNotFoundError, match='no_such_file'):
        numpy.get_metadata('no_such_file')
    for name in ('no-such-distribution', ''):
        with pytest.raises(pkg_resources.DistributionNotFound):
            pkg_resources.get_distribution(name)


def test_pytest_on_the_stand_in(blocked, monkeypatch, tmp_path):
    import pkg_resources

    assert 'standins' in pkg_resources.__file__
    (tmp_path / 'only_here.py').write_text('value = 3')
    monkeypatch.syspath_prepend(str(tmp_path))
    assert __import__('only_here').value == 3


def test_mmengine_on_the_stand_in(blocked):
    assert is_installed('mmdet')
    assert is_installed('mmdet')  # mmengine reloads pkg_resources each time
    assert is_installed('mmseg')  # a module without a distribution of its name
    assert not is_installed('no_such_package')
    assert Path(get_installed_path('mmdet')) == Path(mmdet.__file__).parent
    assert Path(get_installed_path('mmseg')) == Path(mmseg.__file__).parent
    # the name of a distribution that differs from that of its module
    assert Path(get_installed_path('mmsegmentation')) == Path(mmseg.__file__).parent
    cfg = Config.fromstring("_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\n", '.py')
    assert cfg.model.type == 'RetinaNet'
    assert 'standins' in sys.modules['pkg_resources'].__file__


def test_the_real_one_warns_no_user(process, tmp_path):
    (tmp_path / 'pkg_resources.py').write_text(
        'import warnings\n'
        'warnings.warn("pkg_resources is deprecated as an API. See ...", UserWarning)\n'
        'def get_distribution(name): pass\n'
    )
    code = (
        'import scopevit\n'
        'from mmengine.utils import is_installed\n'
        'import pkg_resources\n'
        f'assert pkg_resources.__file__.startswith({str(tmp_path)!r})\n'
        'is_installed("mmdet"), is_installed("mmdet")\n'
    )
    done = process('-c', code, PYTHONPATH=f'{tmp_path}:{ROOT}')
    assert (done.returncode, done.stderr) == (0, '')


def test_real_one_wins():
    pkg_resources = pytest.importorskip('pkg_resources')
    if metadata.version('setuptools').split('.')[0] >= '82':
        pytest.skip('setuptools without pkg_resources')
    assert 'standins' not in pkg_resources.__file__

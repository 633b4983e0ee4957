"""What importing scopevit costs those who want the shims alone, and that configs still work."""

HEAVY = ('torch', 'torchvision', 'numpy', 'yaml', 'mmengine', 'mmcv', 'mmdet', 'scopevit.models')
IMPORTED = f'print(*[name for name in {HEAVY!r} if name in sys.modules])\n'


def ran(process, code):
    """What a program prints, word by word."""
    result = process('-c', f'import sys\n{code}')
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.split()


def test_shims_alone_import_nothing(process):
    code = 'import scopevit.compat\nscopevit.compat.apply()\n'
    assert ran(process, code + IMPORTED) == []


def test_operators_import_torchvision_once_one_needs_it(process):
    """Nor does a library that is imported and built from import the model."""
    code = f"""
import scopevit.compat
scopevit.compat.apply()
import mmcv.ops
from mmengine.registry import MODELS
from mmengine.model import BaseModule
MODELS.register_module(name='Mine', module=BaseModule)
MODELS.build(dict(type='Mine'))
{IMPORTED}
import mmcv._ext, torch
if mmcv._ext.__file__.endswith('.py'):
    boxes = torch.tensor([[0., 0, 9, 9], [0, 0, 9, 8], [20, 20, 29, 29]])
    dets, kept = mmcv.ops.nms(boxes, torch.tensor([.5, .9, .7]), 0.5)
    print('kept', *kept.tolist(), 'torchvision' in sys.modules)
"""
    before, _, after = ' '.join(ran(process, code)).partition(' kept ')
    assert before.split() == ['torch', 'numpy', 'yaml', 'mmengine', 'mmcv']
    assert after in ('1 2 True', '')


def test_config_that_imports_scopevit_builds_the_model(process):
    """The class takes the place of what was registered for it."""
    code = """
import scopevit.compat
from mmengine.config import Config
from mmengine.registry import MODELS, Registry
cfg = Config(dict(custom_imports=dict(imports=['scopevit'], allow_failed_imports=False)))
child = Registry('model', parent=MODELS, scope='mine', locations=[])
print('scopevit.models' in sys.modules)
model = child.build(dict(type='ScopeViT', arch='xtiny'))
import scopevit
print(type(model) is scopevit.ScopeViT is MODELS.get('ScopeViT'), model.embed_dims[0])
try:
    MODELS.build(dict(type='ScopeViT', drop_path='no such argument'))
except TypeError as error:
    print('drop_path' in str(error))
"""
    assert ran(process, code) == ['False', 'True', '32', 'True']


def test_names_of_the_package(process):
    code = """
import scopevit
print(all(getattr(scopevit, name) for name in scopevit.__all__), set(scopevit.MODULES) <= {
    *scopevit.__all__})
print(hasattr(scopevit, 'no_such_name'))
"""
    assert ran(process, code) == ['True', 'True', 'False']

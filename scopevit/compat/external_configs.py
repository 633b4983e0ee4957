"""Let configs of other projects inherit from `scopevit::detection/…`.

Symptom: `_base_ = 'scopevit::…'`, or `mmengine.hub.get_config('scopevit::…')`, ends in
`AssertionError: mmengine does not support to load scopevit config.`, past that in `KeyError:
'ImageClassifier is not in the mmengine::model registry'`, and in an editable install in
`FileNotFoundError`.

Versions: mmengine 0.10. It inherits from packages of a fixed list alone, looks for their files
where pip would have copied them, and takes the name of the package for the scope of everything that
comes from it. Our configs are of four libraries, and scopevit has no scope.

Way out: put scopevit on the list, name the file and the folder of the package ourselves, and say as
scope what the file itself gives as `default_scope`.

Delete when: mmengine takes packages by their import name, and scopes from configs.
"""

import functools
from pathlib import Path
from types import ModuleType
from typing import Any

from scopevit.compat._acted import record
from scopevit.compat._after_import import after_import

WRITTEN_FOR = {'mmengine': '>=0.10,<0.11'}

PACKAGE = 'scopevit'
CONFIGS = Path(__file__).parents[1] / '.mim' / 'configs'


def apply() -> None:
    """Adds scopevit to the packages that mmengine finds configs of."""
    after_import('mmengine.config.utils', _list_package)
    after_import('mmengine.config.config', _find_own_configs)
    after_import('mmengine.hub.hub', _find_own_package)


def _list_package(utils: ModuleType) -> None:
    utils.MODULE2PACKAGE[PACKAGE] = PACKAGE
    record(__name__)


def _find_own_configs(module: ModuleType) -> None:
    config = module.Config
    find_any = config._get_cfg_path

    def find(cfg_path: str, filename: str) -> tuple[str, str | None]:
        package, _, name = cfg_path.partition('::')
        if package != PACKAGE or not name:
            return find_any(cfg_path, filename)
        return str(CONFIGS / name), scope_of(CONFIGS / name)

    @functools.cache
    def scope_of(path: Path) -> str | None:
        return config._file2dict(str(path))[0].get('default_scope')

    config._get_cfg_path = staticmethod(find)
    record(__name__)


def _find_own_package(hub: Any) -> None:
    find_any = hub.get_installed_path

    def find(package: str) -> str:
        return str(CONFIGS.parents[1]) if package == PACKAGE else find_any(package)

    hub.get_installed_path = find
    record(__name__)

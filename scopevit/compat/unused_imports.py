"""Read configs that import something and do not use it in what they set.

Symptom: every config of mmpretrain's RepLKNet ends in `RuntimeError: The configuration file type in
the inheritance chain must match the current configuration file type`.

Versions: mmengine since 0.8 takes a file that imports a library for one of the kind whose types are
classes, and refuses to let a config of the other kind inherit it. mmpretrain up to 1.2 has such a
file, `_base_/models/replknet-31B_in1k.py`, whose types are names.

Way out: a file that uses nothing of what it imports, but where it is run as a program, and has no
`read_base`, is of the other kind.

Delete when: the file's import is gone, or mmengine looks at what is imported.
"""

import functools
from pathlib import Path
from types import ModuleType

from scopevit.compat._acted import record
from scopevit.compat._after_import import after_import

WRITTEN_FOR = {'mmengine': '>=0.10,<0.11', 'mmpretrain': '>=1.2,<1.3'}


def apply() -> None:
    """Waits for mmengine's configs."""
    after_import('mmengine.config.config', _look_at_use)


def _look_at_use(module: ModuleType) -> None:
    config = module.Config
    has_import = config._is_lazy_import

    @functools.wraps(has_import)
    def uses_import(filename: str) -> bool:
        if not has_import(filename):
            return False
        if not _imports_in_vain(Path(filename).read_text(encoding='utf-8')):
            return True
        record(__name__)
        return False

    config._is_lazy_import = staticmethod(uses_import)


def _imports_in_vain(code: str) -> bool:
    """Whether code that is read uses no name of those that it imports."""
    import ast  # here: whoever imports the shims may never read a config

    statements = [node for node in ast.parse(code).body if not _is_program(ast.unparse(node))]
    nodes = [node for statement in statements for node in ast.walk(statement)]
    if any(isinstance(node, ast.With) for node in nodes):  # `read_base`, which all names come of
        return False
    imported = {
        alias.asname or alias.name.partition('.')[0]
        for node in nodes
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    return '*' not in imported and not imported & used


def _is_program(statement: str) -> bool:
    """Whether a statement is that of a file that is run, and not read."""
    return statement.startswith("if __name__ == '__main__':")

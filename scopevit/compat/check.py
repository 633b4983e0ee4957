"""What the shims do here, whose mmcv's operators are, and what of the libraries is broken."""

import json
import re
import sys
import traceback
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from scopevit.compat import SHIMS, acted
from scopevit.compat.operators import EXTENSION, describe_operators
from scopevit.errors import error_text

# Nothing of scopevit.engine is imported here, which needs what may be missing.
NEEDED: dict[str, tuple[str, ...]] = {
    'packaging': ('packaging.specifiers',),
    'numpy': ('numpy',),
    'torch': ('torch',),
    'torchvision': ('torchvision',),
    'cv2': ('cv2',),
    'mmengine': ('mmengine.runner', 'mmengine.hub'),
    'mmcv': (EXTENSION, 'mmcv.ops'),
}
TASKS = {
    name: tuple(f'{name}.{part}' for part in ('models', 'datasets', 'evaluation', 'visualization'))
    for name in ('mmpretrain', 'mmdet', 'mmseg', 'mmpose')
}
NMS = 'NMS of torchvision'
ADVICE = {
    **dict.fromkeys(('torchvision', NMS), '; it must be the one made for this torch'),
    EXTENSION: '; mmcv was compiled for another torch: compile it for this one, or install '
    'mmcv-lite in its place',
}


class Broken:
    """What does not work, a line each, by the library that it began with."""

    def __init__(self) -> None:
        self.lines: dict[str, str] = {}
        self.followers: dict[str, list[str]] = {}

    def attempt(self, library: str, what: str, function: Callable[[], object]) -> bool:
        """Calls a function; where it fails, that is the fault of a library found broken before, if
        it went through one, and otherwise of this one.
        """
        try:
            function()
        except Exception as error:
            frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
            through = {str(f.f_globals.get('__name__')).partition('.')[0] for f in frames}
            through.add(missing_root(error))
            before = [name for name in self.lines if name in through]
            if before:
                self.followers.setdefault(before[0], []).append(what)
            else:
                root = missing_root(error) or library
                self.lines[root] = describe_error(what, error)
            return False
        return True

    def as_lines(self) -> list[str]:
        """Returns the lines, each with what does not work for the same reason."""
        return [
            line + (f' (nor does {", ".join(others)})' if (others := self.followers.get(n)) else '')
            for n, line in self.lines.items()
        ]


def missing_root(error: Exception) -> str:
    """Returns the package that an import did not find, '' for other errors."""
    root = (getattr(error, 'name', None) or '').partition('.')[0]
    if not isinstance(error, ModuleNotFoundError) or not root or is_installed(root):
        return ''
    return root


def describe_error(what: str, error: Exception) -> str:
    """Says in one line why something does not work."""
    root = missing_root(error)
    if root in NEEDED:
        return f'{root} is not installed: tools/install.sh --only-compat PYTHON installs all'
    if root:
        return f'{root} is not installed, and {what} does not work without it: pip install {root}'
    return f'{what} does not work: {error_text(error)}{ADVICE.get(what, "")}'


def is_installed(library: str) -> bool:
    """Whether a package, or a stand-in for it, can be found; it may not import."""
    return library in sys.modules or find_spec(library) is not None


def find_broken() -> list[str]:
    """Imports all libraries that are installed, and tries what imports do not show.

    Returns:
        A line for each thing that does not work; none where everything does. What several failed
        for is one line.
    """
    broken = Broken()
    present = {name: modules for name, modules in TASKS.items() if is_installed(name)}
    for library, modules in {**NEEDED, **present}.items():
        for module in modules:
            # What was half imported fails in other ways the next time.
            if not broken.attempt(library, module, partial(import_module, module)):
                break
    if 'torch' in sys.modules and 'numpy' in sys.modules:
        broken.attempt('torch', 'torch with numpy', take_array)
    if 'torchvision' in sys.modules:
        broken.attempt('torchvision', NMS, suppress_box)
    return broken.as_lines()


def take_array() -> None:
    """Fails where torch was built for another numpy."""
    numpy, torch = import_module('numpy'), import_module('torch')
    torch.from_numpy(numpy.zeros(1)).numpy()


def suppress_box() -> None:
    """Fails where torchvision was built for another torch."""
    torch = import_module('torch')
    torch.ops.torchvision.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)


def describe_shim(shim: ModuleType) -> dict[str, str]:
    """Returns what a shim does here, once all libraries are imported.

    Returns:
        Its `name`; `does`, what it is for; its `state`, 'acts', 'waits', 'not needed', or 'idle'
        where a library it is for is not imported; `waits for`; `delete when`; and `written for`,
        where other versions are installed.
    """
    name = shim.__name__.rpartition('.')[2]
    doc = shim.__doc__ or ''
    delete = re.search(r'^Delete when: (.+?)\n(?:\n|\Z)', f'{doc}\n', re.MULTILINE | re.DOTALL)
    return {
        'name': name,
        'does': doc.partition('\n')[0],
        'state': 'acts' if name in acted else idle_state(shim),
        'waits for': getattr(shim, 'WAITS_FOR', ''),
        'delete when': ' '.join(delete[1].split()) if delete else '',
        'written for': ', '.join(outgrown(shim)),
    }


def idle_state(shim: ModuleType) -> str:
    """Returns the state of a shim that has not acted, see `describe_shim`."""
    if not all(import_name(library) in sys.modules for library in shim.WRITTEN_FOR):
        return 'idle'
    return 'waits' if hasattr(shim, 'WAITS_FOR') else 'not needed'


def import_name(library: str) -> str:
    """Returns the module of a library; forks and the compiled mmcv have that of mmcv-lite."""
    return library.removesuffix('-lite')


def outgrown(shim: ModuleType) -> list[str]:
    """Returns the libraries of which another version is installed than a shim was written for."""
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:  # which `find_broken` says
        return []
    return [
        f'{library} {versions}, not {version}'
        for library, versions in shim.WRITTEN_FOR.items()
        if (version := getattr(sys.modules.get(import_name(library)), '__version__', ''))
        and version not in SpecifierSet(versions, prereleases=True)
    ]


def describe() -> dict[str, Any]:
    """Returns what is broken, which libraries are not installed, the shims, and the operators."""
    broken = find_broken()
    try:
        operators = describe_operators()
    except Exception:  # which `find_broken` says
        operators = None
    return {
        'broken': broken,
        'not installed': [name for name in TASKS if not is_installed(name)],
        'shims': [describe_shim(shim) for shim in SHIMS],
        'operators': operators,
    }


def as_text(description: dict[str, Any]) -> str:
    """Returns what `describe` found as lines to read."""
    lines = ['shims']
    for shim in description['shims']:
        text = f'{shim["state"]}: {shim["does"]}'
        if shim['state'] == 'waits':
            text = f'waits for {shim["waits for"]}: {shim["does"]}'
        elif shim['state'] == 'idle':
            text = 'its library is not imported'
        elif shim['state'] == 'not needed':
            text = f'not needed for what is installed here. Delete when: {shim["delete when"]}'
        if shim['written for']:
            text += f' Written for {shim["written for"]}.'
        lines.append(f'  {shim["name"]:20}{text}')
    lines.append("mmcv's operators")
    operators = description['operators']
    if operators is None:
        lines.append('  cannot be loaded')
    elif operators['compiled']:
        lines.append(f'  {"compiled":20}{operators["file"]}')
    for whose in ('torchvision', 'torch', 'missing') if operators else ():
        if operators[whose]:
            lines.append(f'  {whose:20}{", ".join(operators[whose])}')
    if description['not installed']:
        lines.append(f'not installed, and not needed: {", ".join(description["not installed"])}')
    if not description['broken']:
        lines.append('nothing is broken')
    return '\n'.join(lines)


def run(as_json: bool = False) -> int:
    """Prints what `describe` finds; what is broken goes to stderr, a line each.

    Returns:
        The exit code, 1 where something is broken.
    """
    print('importing the libraries', file=sys.stderr)
    description = describe()
    print(json.dumps(description, indent=2) if as_json else as_text(description), flush=True)
    for line in description['broken']:
        print(f'error: {line}', file=sys.stderr)
    return 1 if description['broken'] else 0

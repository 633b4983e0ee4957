"""Package metadata. `pip install -e .` gives the backbone; all the rest takes tools/install.sh."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(role: str) -> list[str]:
    """Returns the requirements of requirements/<role>.txt."""
    lines = (ROOT / 'requirements' / f'{role}.txt').read_text(encoding='utf-8').splitlines()
    return [line for line in (line.partition('#')[0].strip() for line in lines) if line]


def version() -> str:
    """Returns the version without importing the package, which needs torch."""
    text = (ROOT / 'scopevit' / 'version.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '(.+)'$", text, re.MULTILINE)[1]


# pip brings opencv-python for them. Where that does not import, and for mmpose, which pip cannot
# install at all, see tools/install.sh.
PINNED = {line.partition('==')[0]: line for line in requirements('nodeps')}
RUNTIME = [PINNED[name] for name in ('mmengine', 'mmcv-lite')]
TASKS = [PINNED[name] for name in ('mmdet', 'mmpretrain', 'mmsegmentation')]

setup(
    name='scopevit',
    version=version(),
    description='ScopeViT for classification, detection, segmentation and pose with OpenMMLab',
    license='Apache-2.0',
    packages=find_packages(include=['scopevit*']),
    py_modules=['scopevit_command'],
    entry_points={'console_scripts': ['scopevit = scopevit_command:main']},
    include_package_data=True,
    package_data={'scopevit': ['py.typed']},
    zip_safe=False,
    python_requires='>=3.10',
    install_requires=requirements('runtime') + RUNTIME,
    extras_require={
        'tasks': requirements('tasks') + TASKS,
        'tests': requirements('tests'),
        'dev': requirements('dev'),
        'data': requirements('data'),
        'export': requirements('export'),
        'logging': requirements('logging'),
        'supervision': requirements('supervision'),
    },
)

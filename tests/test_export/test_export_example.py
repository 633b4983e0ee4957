"""The example of docs/export.md: a detector without any code of ours."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from trained import Trained

from scopevit import Predictor
from scopevit.export.network import load_network

PAGE = Path(__file__).parents[2] / 'docs' / 'export.md'
LINES = 40  # in which it has to be said
OURS = ('scopevit', 'torch', 'mmengine', 'mmcv', 'mmdet', 'cv2')
BLOCK = f'import sys\nfor name in {OURS}:\n    sys.modules[name] = None\n'


def test_finds_what_the_checkpoint_does(
    trained: Callable[[str], Trained], exported: Callable[[str], Path], tmp_path: Path
) -> None:
    code = re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.S)[-1]
    assert sum(bool(line.strip()) for line in code.splitlines()) <= LINES
    made, model = trained('detection'), exported('detection')
    # Of the size that it is resized to, so that the ways of resizing make no difference; random
    # weights are sure of nothing.
    code = code.replace('score >= 0.3', 'score >= 0')
    (tmp_path / 'detect.py').write_text(code)
    (tmp_path / 'sitecustomize.py').write_text(BLOCK)
    height, width = load_network(made.checkpoint, None, None).size
    photo = cv2.resize(cv2.imread(str(next(made.images.iterdir()))), (width, height))
    cv2.imwrite(str(tmp_path / 'photo.png'), photo)

    done = subprocess.run(
        [sys.executable, 'detect.py', model, 'photo.png', 'out.png'],
        cwd=tmp_path,
        env={'PYTHONPATH': str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, '')
    (result,) = Predictor(made.checkpoint, 'cpu', min_score=0)(str(tmp_path / 'photo.png'))
    lines = done.stdout.splitlines()
    assert len(lines) == len(result.scores) > 0
    numbers = np.array([re.findall(r'-?[\d.]+', line)[-5:] for line in lines], float)
    np.testing.assert_allclose(numbers[:, 0], result.scores, atol=2e-3)
    np.testing.assert_allclose(numbers[:, 1:], result.boxes, atol=0.2)
    assert {line.split()[0] for line in lines} <= set(result.labels.classes)
    drawn = np.asarray(Image.open(tmp_path / 'out.png'))
    assert drawn.shape == photo.shape and (drawn != photo[..., ::-1]).any()


@pytest.mark.parametrize('name', OURS)
def test_other_code_is_blocked(name: str, tmp_path: Path) -> None:
    (tmp_path / 'sitecustomize.py').write_text(BLOCK)
    done = subprocess.run(
        [sys.executable, '-c', f'import {name}'],
        env={'PYTHONPATH': str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert f'import of {name} halted' in done.stderr

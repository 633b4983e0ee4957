"""tools/analysis_tools/print_config.py on the recipes."""

from pathlib import Path

import pytest
from mmengine.config import Config

CONFIGS = Path(__file__).parents[2] / 'configs'
TOOL = 'analysis_tools/print_config'
RECIPES = [
    'classification/scopevit-tiny_8xb128_in1k.py',
    'detection/mask-rcnn_scopevit-tiny_fpn_1x_coco.py',
    'segmentation/fpn_scopevit-tiny_8xb4-80k_ade20k-512x512.py',
    'pose/td-hm_scopevit-tiny_8xb32-210e_coco-256x192.py',
]


@pytest.mark.parametrize('recipe', RECIPES)
def test_what_is_written_reads_as_the_config(recipe, tool, tmp_path):
    code, err = tool(TOOL, CONFIGS / recipe, '--out', tmp_path / 'new' / 'whole.py')
    assert code == 0, err
    (path,) = (tmp_path / 'new').iterdir()
    assert '_base_' not in path.read_text()
    assert Config.fromfile(path).to_dict() == Config.fromfile(CONFIGS / recipe).to_dict()


def test_output_is_a_config_with_the_options(process, tmp_path):
    result = process(
        'tools/analysis_tools/print_config.py', CONFIGS / RECIPES[0],
        '--cfg-options', 'model.backbone.arch=small', 'model.head.in_channels=512',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    path = tmp_path / 'printed.py'
    path.write_text(result.stdout)
    cfg, expected = Config.fromfile(path), Config.fromfile(CONFIGS / RECIPES[0])
    assert cfg.model.backbone.arch == 'small'
    expected.merge_from_dict({'model.backbone.arch': 'small', 'model.head.in_channels': 512})
    assert cfg.to_dict() == expected.to_dict()


def test_refusals(tmp_path, fails):
    config, out = CONFIGS / RECIPES[0], tmp_path / 'out.py'
    assert f'{tmp_path / "nope.py"}' in fails(TOOL, tmp_path / 'nope.py', '--out', out)
    assert '--out must end in .py, not a.json' in fails(TOOL, config, '--out', 'a.json')
    assert "has no 'modle'" in fails(TOOL, config, '--out', out, '--cfg-options', 'modle.a=1')
    assert f'cannot write {config / "a.py"}' in fails(TOOL, config, '--out', config / 'a.py')
    broken = tmp_path / 'broken.py'
    broken.write_text('model = dict(\n')
    assert f'{broken}:1: ' in fails(TOOL, broken, '--out', out)
    assert not out.exists()

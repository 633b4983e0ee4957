"""The picture of what a token sees, against what tokens the network's outputs depend on."""

import importlib.util
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from torch import nn

from scopevit import ScopeViT

ROOT = Path(__file__).parents[2]
TOOL = 'docs/draw_attention'


@pytest.fixture(scope='module')
def module():
    spec = importlib.util.spec_from_file_location('draw_attention', ROOT / f'tools/{TOOL}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def seen_cells(gradient):
    """Rows and columns of a map's gradient (H, W, C) that are not 0."""
    return {tuple(cell) for cell in gradient.abs().sum(-1).nonzero().tolist()}


def test_the_committed_picture_is_what_the_tool_draws(tool, tmp_path):
    path = tmp_path / 'a.svg'
    code, err = tool(TOOL, '--out', path)
    assert code == 0, err
    committed = ROOT / 'docs' / 'attention.svg'
    assert path.read_bytes() == committed.read_bytes(), f'run tools/{TOOL}.py'
    assert committed.stat().st_size < 100_000


def test_texts_stay_inside(module):
    root = ET.fromstring(module.draw())
    width = float(root.get('viewBox').split()[2])
    texts = root.findall('{http://www.w3.org/2000/svg}text')
    assert len(texts) > 10
    # In DejaVu Sans, the widest of the fonts that it names.
    for text in texts:
        font = FontProperties(family='DejaVu Sans', weight=text.get('font-weight', 'normal'))
        drawn = TextPath((0, 0), text.text, float(text.get('font-size')), prop=font)
        assert float(text.get('x')) + drawn.get_extents().x1 < width, text.text


@pytest.mark.parametrize('size', [(32, 32), (16, 16), (20, 27), (7, 9), (64, 48)])
def test_groups_are_those_that_tokens_attend_to(module, size):
    gsda = ScopeViT('xtiny').stages[0].blocks[0].gsda.attn
    groups = module.groups_of(*size, gsda.grid_size)
    cells = [cell for group in groups for cell in group]
    assert len(cells) == len(set(cells)) == size[0] * size[1]
    x = torch.randn(1, *size, 32, requires_grad=True)
    out = gsda(x)
    for group in (groups[0], groups[-1]):
        row, column = group[len(group) // 2]
        (gradient,) = torch.autograd.grad(out[0, row, column].sum(), x, retain_graph=True)
        assert seen_cells(gradient[0]) == set(group)


@pytest.mark.parametrize('scale', [0, 1, 2])
def test_patches_are_those_that_keys_are_made_of(module, scale):
    conv = ScopeViT('tiny').stages[1].blocks[0].mssa.attn.scales[scale]
    nn.init.ones_(conv.weight)
    x = torch.ones(1, conv.in_channels, 32, 32, requires_grad=True)
    keys, (height, width) = module.keys_of(conv, 32), conv(x).shape[-2:]
    assert len(keys) == height * width
    for i in (4 * width + 4, 9 * width + 11):
        (gradient,) = torch.autograd.grad(conv(x).flatten(2)[0, 0, i], x)
        patch = module.patch_of(conv, keys[i])
        assert seen_cells(gradient[0].permute(1, 2, 0)) == set(patch)
        assert patch[len(patch) // 2] == keys[i]


def test_every_token_reaches_every_key(module):
    """One output of MSSA depends on all patches, which together are the whole map."""
    mssa = ScopeViT('tiny').eval().stages[1].blocks[0].mssa.attn
    x = torch.randn(1, 16, 16, 32 * 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(mssa(x)[0, 9, 10].sum(), x)
    assert len(seen_cells(gradient[0])) == 256


def test_another_kind_of_file_is_refused(fails, tmp_path):
    out = tmp_path / 'a.png'
    assert f'--out must end in .svg, not {out}' in fails(TOOL, '--out', out)
    assert not out.exists()

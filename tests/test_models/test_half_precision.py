"""bfloat16 and float16 autocast keep the decision on real images, and every value is a number."""

import copy
from pathlib import Path

import cv2
import pytest
import torch
from golden import CASES, golden_classifier, golden_image, parse_case
from marks import rest_is_slow
from mini import MINI

from scopevit import ScopeViT

DEMO = Path(__file__).parents[2] / 'data' / 'demo'
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
SIZE = 224


@pytest.fixture(scope='module')
def images():
    """Twelve photographs and tissue tiles, (12, 3, 224, 224)."""
    paths = sorted((DEMO / 'pose' / 'images' / 'val').iterdir())[:6]
    paths += sorted((DEMO / 'nuclei' / 'images' / 'train').iterdir())[:6]
    pixels = [cv2.resize(cv2.imread(str(path)), (SIZE, SIZE))[..., ::-1].copy() for path in paths]
    # (N, H, W, C) -> (N, C, H, W)
    batch = torch.stack([torch.from_numpy(image) for image in pixels]).permute(0, 3, 1, 2)
    return (batch - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def logits(model, x, dtype=None):
    with torch.no_grad(), torch.autocast('cpu', dtype, enabled=dtype is not None):
        return model(x, mode='tensor').float()


@pytest.mark.parametrize('form', rest_is_slow(['trained', 'deployed']))
def test_the_decision_stays(form, images):
    model = copy.deepcopy(golden_classifier('xtiny'))
    if form == 'deployed':
        model.backbone.switch_to_deploy()
    with torch.no_grad():  # the random network's favourite class gives way to the images' own
        model.head.fc.bias -= logits(model, images).mean(0)
    exact = logits(model, images)
    first, second = exact.topk(2).values.T
    assert len(exact.argmax(1).unique()) >= 4
    for dtype, rounding in ((torch.bfloat16, 0.04), (torch.float16, 0.005)):
        half = logits(model, images, dtype)
        assert (half - exact).abs().max() < rounding
        # An untrained network hardly tells some of the images' best two classes apart.
        is_decided = first - second > rounding
        assert is_decided.sum() >= 5
        assert torch.equal(half.argmax(1)[is_decided], exact.argmax(1)[is_decided])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('case', CASES)
def test_golden_sizes_give_numbers(case, dtype):
    arch, shape = parse_case(case)
    model = golden_classifier(arch).backbone
    x = golden_image((1, *shape[1:]))
    with torch.no_grad():
        exact = model(x)
        with torch.autocast('cpu', dtype):
            half = model(x)
    tolerance = {torch.bfloat16: 0.03, torch.float16: 0.004}[dtype]
    for a, b in zip(half, exact, strict=True):
        assert a.isfinite().all()
        assert (a - b).abs().max() < tolerance * b.abs().max()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('deploy', [False, True], ids=['trained', 'deployed'])
@pytest.mark.parametrize(('scale', 'is_float'), [(1e-6, True), (0.0, False)])
def test_type_of_the_maps(scale, is_float, deploy, dtype):
    """LayerScale's vectors are float32, and so are the maps; else they are as linear layers'."""
    model = ScopeViT(MINI, layer_scale_init_value=scale, deploy=deploy).eval()
    with torch.no_grad(), torch.autocast('cpu', dtype):
        maps = model(torch.randn(1, 3, 64, 64))
    assert [out.dtype for out in maps] == [torch.float32 if is_float else dtype] * 4

"""The network equals the published one: the golden cases, through the converter and mmpretrain."""

import copy
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from golden import (
    CASES,
    GOLDEN_DIR,
    NUM_CLASSES,
    authors_weights,
    golden_image,
    parse_case,
    relative_error,
    sample,
)
from mmengine.registry import DefaultScope
from mmpretrain.models import ImageClassifier
from torch import nn

from scopevit.models.convert import convert_checkpoint

# Of a float32 activation; where the exact value is nearer to 0, its sign is a coin's toss.
FLOAT32_NOISE = 3e-6


@pytest.fixture(scope='module')
def classifiers(tmp_path_factory):
    """One classifier a size, its weights brought in by the converter."""
    made = {}
    for arch, dims in (('xtiny', 256), ('tiny', 256), ('small', 512)):
        folder = tmp_path_factory.mktemp(arch)
        src, dst = folder / 'authors.pth', folder / 'converted.pth'
        torch.save({'state_dict': authors_weights(arch)}, src)
        assert convert_checkpoint(src, dst) == arch
        # Another test of this process may have left another library's scope.
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = ImageClassifier(
                backbone=dict(type='ScopeViT', arch=arch),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=NUM_CLASSES, in_channels=dims),
                init_cfg=dict(type='Pretrained', checkpoint=str(dst)),
            )
        model.init_weights()
        made[arch] = model.eval()
    return made


@contextmanager
def recorded_relu_inputs(model, recorded):
    hooks = [
        module.register_forward_pre_hook(lambda _, args: recorded.append(args[0].detach().clone()))
        for module in model.modules()
        if isinstance(module, nn.ReLU)
    ]
    yield
    for hook in hooks:
        hook.remove()


@contextmanager
def settled_relu_signs(model, exact):
    """Gives ReLU inputs that rounding may turn over the sign they have in float64.

    The gradient of a ReLU jumps where its input is 0. A handful of the millions of inputs lie
    within float32's rounding of it, so that the gradient of the image would depend on the order in
    which this machine adds.
    """
    exact = iter(exact)

    def settle(_, args):
        settled = next(exact)
        near = settled.abs() < FLOAT32_NOISE
        assert near.sum() <= 5 + 1e-4 * near.numel()
        return (torch.where(near, args[0] - args[0].detach() + settled.float(), args[0]),)

    hooks = [
        module.register_forward_pre_hook(settle)
        for module in model.modules()
        if isinstance(module, nn.ReLU)
    ]
    yield
    for hook in hooks:
        hook.remove()


def run(model, image):
    """Stages, logits, and the gradient of the image."""
    image = image.clone().requires_grad_()
    stages = model.backbone(image)
    logits = model.head((model.neck(stages)[-1],))
    (gradient,) = torch.autograd.grad(0.5 * (logits**2).sum(), image)
    return stages, logits, gradient


def assert_outputs(golden, stages, logits, tolerance):
    assert len(stages) == 4
    for i, stage in enumerate(stages):
        assert tuple(stage.shape) == tuple(golden[f'stage{i}_shape'])
        assert relative_error(sample(stage), golden[f'stage{i}_sample']) < tolerance
    assert relative_error(logits.detach().numpy(), golden['logits']) < tolerance


@pytest.mark.parametrize('case', CASES)
def test_golden_case(case, classifiers):
    arch, shape = parse_case(case)
    model, image = classifiers[arch], golden_image(shape)
    golden = np.load(GOLDEN_DIR / f'{case}.npz')
    relu_inputs = []
    with recorded_relu_inputs(model.double(), relu_inputs):
        stages, logits, gradient = run(model, image.double())
    assert_outputs(golden, stages, logits, 1e-6)
    assert relative_error(sample(gradient), golden['input_grad_sample']) < 1e-6

    stages, logits, _ = run(model.float(), image)
    assert_outputs(golden, stages, logits, 2e-4)
    with settled_relu_signs(model, relu_inputs):
        *_, gradient = run(model, image)
    assert relative_error(sample(gradient), golden['input_grad_sample']) < 2e-4


def run_without_gradient(model, image):
    with torch.no_grad():
        stages = model.backbone(image)
        return stages, model.head((model.neck(stages)[-1],))


@pytest.mark.parametrize('case', CASES)
def test_golden_case_deployed(case, classifiers):
    arch, shape = parse_case(case)
    image, golden = golden_image(shape), np.load(GOLDEN_DIR / f'{case}.npz')
    model = copy.deepcopy(classifiers[arch]).double()
    model.backbone.switch_to_deploy()
    assert_outputs(golden, *run_without_gradient(model, image.double()), 1e-6)
    assert_outputs(golden, *run_without_gradient(model.float(), image), 2e-4)


@pytest.mark.slow  # the default backend's C++
@pytest.mark.parametrize('deploy', [False, True], ids=['trained', 'deployed'])
def test_golden_case_compiled(deploy, classifiers):
    case = 'xtiny_1x3x224x224'  # the smallest, and ragged in three stages
    arch, shape = parse_case(case)
    model = copy.deepcopy(classifiers[arch])
    if deploy:
        model.backbone.switch_to_deploy()
    model.backbone.compile(fullgraph=True, dynamic=False, backend='aot_eager')
    golden = np.load(GOLDEN_DIR / f'{case}.npz')
    assert_outputs(golden, *run_without_gradient(model, golden_image(shape)), 2e-4)


def test_all_cases_are_here():
    assert len(CASES) == 7
    assert {parse_case(case)[0] for case in CASES} == {'xtiny', 'tiny', 'small'}

"""The golden numbers in tests/data/golden: their weights, their images, their comparison."""

import functools
import math
import re
import zlib
from pathlib import Path

import numpy as np
import torch
from mmengine.registry import DefaultScope
from mmpretrain.models import ImageClassifier

from scopevit.models.convert import convert_state_dict

GOLDEN_DIR = Path(__file__).parent / 'data' / 'golden'
CASES = sorted(path.stem for path in GOLDEN_DIR.glob('*.npz'))
NUM_CLASSES = 1000


def parse_case(case: str) -> tuple[str, tuple[int, int, int, int]]:
    """'xtiny_1x3x224x224' -> ('xtiny', (1, 3, 224, 224))."""
    arch, shape = re.fullmatch(r'(\w+?)_([\dx]+)', case).groups()
    return arch, tuple(int(side) for side in shape.split('x'))


def authors_shapes(arch: str) -> dict[str, tuple[int, ...]]:
    """Shapes by the authors' names, written out from the specification's tables alone."""
    widths = [64, 128, 256, 512] if arch == 'small' else [32, 64, 128, 256]
    depths = {'xtiny': [1, 2, 4, 1], 'tiny': [2, 2, 5, 2], 'small': [1, 2, 3, 1]}[arch]
    heads = [2, 4, 8, 16]
    splits = [(1, 1, 0), (2, 1, 1), (4, 3, 1), (8, 6, 2)]
    shapes = {}

    def linear(name, c_in, c_out, bias=True):
        shapes[f'{name}.weight'] = (c_out, c_in)
        if bias:
            shapes[f'{name}.bias'] = (c_out,)

    def conv(name, c_in, c_out, k, groups=1, bias=False):
        shapes[f'{name}.weight'] = (c_out, c_in // groups, k, k)
        if bias:
            shapes[f'{name}.bias'] = (c_out,)

    def norm(name, c, batch=True):
        shapes[f'{name}.weight'] = shapes[f'{name}.bias'] = (c,)
        if batch:
            shapes[f'{name}.running_mean'] = shapes[f'{name}.running_var'] = (c,)

    for i, c in enumerate(widths):
        if i == 0:
            conv('patch_embed1.projection.0', 3, c // 2, 3, bias=True)
            norm('patch_embed1.projection.1', c // 2)
            conv('patch_embed1.projection.3', c // 2, c, 3, bias=True)
            norm('patch_embed1.projection.4', c)
        else:
            conv(f'patch_embed{i + 1}.projection', widths[i - 1], c, 3, bias=True)
            norm(f'patch_embed{i + 1}.norm', c)
        for j in range(depths[i]):
            for kind in ('mssa', 'gsda'):
                layer = f'blocks{i + 1}.{j}.{kind}'
                norm(f'{layer}.norm1', c, batch=False)
                norm(f'{layer}.norm2', c, batch=False)
                shapes[f'{layer}.ls1.gamma'] = shapes[f'{layer}.ls2.gamma'] = (c,)
                linear(f'{layer}.mlp.fc1', c, 4 * c)
                linear(f'{layer}.mlp.fc2', 4 * c, c)
                linear(f'{layer}.attn.proj', c, c)
            mssa, gsda = f'blocks{i + 1}.{j}.mssa.attn', f'blocks{i + 1}.{j}.gsda.attn'
            linear(f'{mssa}.query', c, c, bias=False)
            linear(f'{mssa}.key_value', c, 2 * c, bias=False)
            cpe = f'{mssa}.mspe.cpe'
            conv(f'{cpe}.conv_pw', c, 4 * c, 1)
            norm(f'{cpe}.bn1.0', 4 * c)
            conv(f'{cpe}.conv_dw', 4 * c, 4 * c, 3, groups=4 * c)
            norm(f'{cpe}.bn2.0', 4 * c)
            conv(f'{cpe}.conv_pwl', 4 * c, c, 1)
            norm(f'{cpe}.bn3', c)
            for scale, k, n in zip(('large', 'medium', 'small'), (7, 5, 3), splits[i]):
                if n:
                    dims = c // heads[i] * n
                    conv(f'{mssa}.mspe.{scale}_embed', dims, dims, k, groups=dims)
            linear(f'{gsda}.qkv', c, 3 * c, bias=False)
            linear(f'{gsda}.rel_pos.mlp.fc1', 2, 512)
            linear(f'{gsda}.rel_pos.mlp.fc2', 512, heads[i])
        norm(f'norm{i + 1}', c)
    linear('head', widths[-1], NUM_CLASSES)
    return shapes


def authors_weights(arch: str) -> dict[str, torch.Tensor]:
    """The golden weights, float32, by the authors' names."""
    weights = {}
    for name, shape in authors_shapes(arch).items():
        n = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
        if name.endswith('running_mean'):
            n = 0.1 * n
        elif name.endswith('running_var'):
            n = 1 + 0.5 * np.abs(n)
        elif name.endswith('gamma'):
            n = 0.5 + 0.1 * n
        elif len(shape) == 1:
            n = 1 + 0.1 * n if name.endswith('weight') else 0.1 * n
        else:
            n = n / math.sqrt(math.prod(shape[1:]))
        weights[name] = torch.from_numpy(n.astype(np.float32))
    return weights


@functools.cache
def golden_classifier(arch: str) -> ImageClassifier:
    """The golden network of mmpretrain, for whoever changes it to make a copy first."""
    weights, _ = convert_state_dict(authors_weights(arch))
    # Another test of this process may have left another library's scope.
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = ImageClassifier(
            backbone=dict(type='ScopeViT', arch=arch),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(
                type='LinearClsHead',
                num_classes=NUM_CLASSES,
                in_channels=weights['head.fc.weight'].shape[1],
            ),
        )
    model.load_state_dict(weights)
    return model.eval()


def golden_image(shape: tuple[int, ...]) -> torch.Tensor:
    image = np.random.default_rng(20240417).standard_normal(shape).astype(np.float32)
    return torch.from_numpy(image)


def sample(x: torch.Tensor) -> np.ndarray:
    """512 values of `x`, spread over it in C order."""
    x = x.detach().contiguous().flatten()
    return x[torch.from_numpy(np.linspace(0, x.numel() - 1, 512).astype(np.int64))].numpy()


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest deviation over the largest magnitude."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())

"""Which kernels attention gets: literal ones on the CPU, operators of CUDA on fake tensors."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from fake_cuda import needs_cuda_code
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from scopevit.benchmark.attention_kernels import (
    FUSED,
    AttentionCall,
    attention_kernels,
    attention_of_forms_table,
    join_blocks,
)
from scopevit.benchmark.fake_cuda import fake_cuda
from scopevit.benchmark.forms import INFERENCE, TRAINING, make_backbone, make_pass
from scopevit.models.sizes import ARCHS

OPS = torch.ops.aten
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
# xtiny on two images of 64x64. Stage 1 has a map of 16x16, whose keys are 5x5 after a stride of 4,
# in 2x2 groups of 8x8 tokens; stage 3 a map of 4x4, which is one group.
MSSA_1 = AttentionCall('stages.0.blocks.0.mssa.attn', 'flash (CPU)', (2, 2, 256, 16), 25, False)
GSDA_1 = AttentionCall('stages.0.blocks.0.gsda.attn', 'flash (CPU)', (8, 2, 64, 16), 64, True)
GSDA_3 = AttentionCall('stages.2.blocks.0.gsda.attn', 'flash (CPU)', (2, 8, 16, 16), 16, True)


def kernels(form, mode, **changes):
    run = make_pass(make_backbone(form, 'xtiny'), form, mode)
    return attention_kernels(run.module, lambda: run(IMAGES, **changes))


@pytest.mark.parametrize('guard', [torch.no_grad, torch.inference_mode])
def test_in_inference_a_cpu_has_a_fused_kernel_for_all(guard):
    calls = kernels('eager', INFERENCE, guard=guard)
    assert len(calls) == 2 * sum(ARCHS['xtiny']['depths'])
    assert {call.kernel for call in calls} == {'flash (CPU)'}
    assert calls[:2] == [MSSA_1, GSDA_1] and GSDA_3 in calls


@pytest.mark.parametrize('guard', [torch.no_grad, torch.inference_mode])
def test_the_way_without_a_fused_kernel(guard):
    with sdpa_kernel(SDPBackend.MATH):
        calls = kernels('eager', INFERENCE, guard=guard)
    assert {call.kernel for call in calls} == {'math'}
    assert calls[:2] == [replace(MSSA_1, kernel='math'), replace(GSDA_1, kernel='math')]


def test_in_training_a_cpu_computes_gsda_by_products():
    calls = kernels('eager', TRAINING)
    assert len(calls) == 2 * sum(ARCHS['xtiny']['depths'])
    assert calls[0] == MSSA_1
    assert calls[1] == AttentionCall(GSDA_1.layer, 'products', (8, 2, 64), 64, None)
    assert calls[1::2] == [call for call in calls if call.kernel == 'products']


def test_layers_of_a_checkpoint_are_computed_twice():
    calls = kernels('checkpointed', TRAINING)
    once = kernels('eager', TRAINING)
    assert Counter(calls) == Counter([*once, *once])


def test_products_of_the_plain_implementation():
    calls = kernels('plain', INFERENCE)
    assert len(calls) == 2 * sum(ARCHS['xtiny']['depths'])
    first = replace(MSSA_1, kernel='products', queries=(2, 2, 256), has_bias=None)
    assert calls[0] == first


class Attends(nn.Module):
    """An attention that calls one operator of CUDA."""

    def __init__(self, attend):
        super().__init__()
        self.attend = attend

    def forward(self, x, bias):
        return self.attend(x, x, x, bias)


@needs_cuda_code
@pytest.mark.parametrize(
    'attend, kernel, has_bias',
    [
        (lambda q, k, v, b: OPS._scaled_dot_product_flash_attention(q, k, v), 'flash', False),
        (
            lambda q, k, v, b: OPS._scaled_dot_product_efficient_attention(q, k, v, b, True),
            'memory-efficient',
            True,
        ),
        (
            lambda q, k, v, b: OPS._scaled_dot_product_efficient_attention(q, k, v, None, True),
            'memory-efficient',
            False,
        ),
        (
            lambda q, k, v, b: OPS._scaled_dot_product_cudnn_attention(q, k, v, b, True),
            'cuDNN',
            True,
        ),
        (lambda q, k, v, b: F.scaled_dot_product_attention(q, k, v, attn_mask=b), 'math', True),
        (lambda q, k, v, b: F.scaled_dot_product_attention(q, k, v), 'math', False),
    ],
)
def test_operators_of_cuda(attend, kernel, has_bias):
    """Fake tensors tell what an operator is, but not which torch would take on a GPU: math here."""
    network = nn.Sequential()
    network.attn = Attends(attend)
    with fake_cuda():
        x = torch.empty(2, 4, 64, 16, dtype=torch.bfloat16, device='cuda')
        bias = torch.empty(2, 4, 64, 64, dtype=torch.bfloat16, device='cuda')
        calls = attention_kernels(network, lambda: network.attn(x, bias))
    assert calls == [AttentionCall('attn', kernel, (2, 4, 64, 16), 64, has_bias)]


def test_every_name_is_an_operator_of_torch():
    for name in FUSED:
        assert getattr(OPS, name.removeprefix('aten::')).default._schema.name == name


def test_joined_blocks_add_up():
    others = [replace(MSSA_1, layer=f'stages.0.blocks.{i}.mssa.attn') for i in (1, 12)]
    joined = replace(MSSA_1, layer='stages.0.blocks.*.mssa.attn', count=3)
    assert join_blocks([MSSA_1, *others]) == [joined]
    assert join_blocks([joined, *others]) == [replace(joined, count=5)]


def test_table_of_forms():
    forms = {
        'eager': [MSSA_1, GSDA_1],
        'bf16': [replace(MSSA_1, kernel='flash'), GSDA_1],
        'pure-bf16': [replace(MSSA_1, kernel='flash'), GSDA_1],
    }
    rows = [line.split('|')[1:-1] for line in attention_of_forms_table(forms).splitlines()]
    rows = [[cell.strip() for cell in row] for row in rows]
    gsda, mssa = 'stages.0.blocks.*.gsda.attn', 'stages.0.blocks.*.mssa.attn'
    assert rows[2:] == [
        [gsda, '8×2×64×16', '64', 'yes', 'flash (CPU)', 'all'],
        [mssa, '2×2×256×16', '25', 'no', 'flash', 'bf16, pure-bf16'],
        [mssa, '2×2×256×16', '25', 'no', 'flash (CPU)', 'eager'],
    ]

"""torch.compile takes the whole network as one graph, for every form, size, type and direction."""

import copy

import pytest
import torch
from marks import rest_is_slow
from mini import MINI, assert_near, outputs
from mmengine.registry import DefaultScope
from torch import nn

from scopevit import ScopeViT
from scopevit.models.scopevit import GlobalScaleDilatedAttention

# A block a stage: graphs are traced block by block.
ARCH = dict(MINI, depths=(1, 1, 1, 1))
EVEN, RAGGED = (64, 64), (72, 100)


@pytest.fixture(autouse=True)
def no_graphs_of_other_tests():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def mini(**kwargs):
    torch.manual_seed(0)
    return ScopeViT(ARCH, layer_scale_init_value=0.5, **kwargs).eval()


def compiled(model, **kwargs):
    # Traced and differentiated as by the default backend, whose C++ would take minutes.
    return torch.compile(model, fullgraph=True, **{'backend': 'aot_eager', **kwargs})


def counting_backend():
    """A list, and a backend that runs graphs as they are and appends them to the list."""
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph

    return graphs, count


def loss_and_gradients(net, model, x, dtype=None):
    """One training step's numbers, from the same state and the same random numbers."""
    model.zero_grad()
    torch.manual_seed(1)
    with torch.autocast('cpu', dtype, enabled=dtype is not None):
        outs = net(x)
        outs = outs if isinstance(outs, tuple) else (outs,)
        loss = sum((out**3).mean() for out in outs)
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters())]


@pytest.mark.parametrize('size', rest_is_slow([RAGGED, (EVEN,)]))
@pytest.mark.parametrize('deploy', [False, True], ids=['trained', 'deployed'])
def test_inference(size, deploy):
    model = mini(out_indices=(0, 2))
    if deploy:
        model.switch_to_deploy()
    x = torch.randn(2, 3, *size).contiguous(memory_format=torch.channels_last)
    assert_near(outputs(compiled(model), x), outputs(model, x))


def test_new_weights_reach_the_graph():
    model, x = mini(out_indices=0), torch.randn(1, 3, *EVEN)
    net = compiled(model)
    before = outputs(net, x)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.1)
    after = outputs(net, x)
    assert (after[0] - before[0]).abs().max() > 0.01
    assert_near(after, outputs(model, x))


def training_twins(**kwargs):
    """Two equal networks in training mode, without the dropout whose numbers differ compiled."""
    model = mini(**kwargs).double()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.train(), copy.deepcopy(model)


@pytest.mark.parametrize('with_cp', rest_is_slow([False, True]), ids=['plain', 'checkpointed'])
def test_forward_and_backward(with_cp):
    model, twin = training_twins(with_cp=with_cp, out_indices=1)
    x = torch.randn(2, 3, *RAGGED, dtype=torch.float64)
    expected = loss_and_gradients(model, model, x)
    assert_near(loss_and_gradients(compiled(twin), twin, x), expected, 1e-9)
    for (name, a), b in zip(model.named_buffers(), twin.buffers()):
        torch.testing.assert_close(a, b, msg=name)  # no batch is counted twice


@pytest.mark.parametrize('training', rest_is_slow([False, True]))
def test_bfloat16_autocast(training):
    model, x = mini(out_indices=1), torch.randn(2, 3, *RAGGED)
    with torch.autocast('cpu', torch.bfloat16):
        expected = outputs(model, x)
    if training:
        model.train()
        values = loss_and_gradients(compiled(model), model, x, torch.bfloat16)
        assert all(value.isfinite().all() for value in values)
    else:
        net = compiled(model)
        with torch.autocast('cpu', torch.bfloat16):
            assert_near(outputs(net, x), expected, 0.02)


def test_one_graph_for_many_sizes():
    torch.manual_seed(0)
    model = GlobalScaleDilatedAttention(8, 2, 4).double().eval()
    nn.init.normal_(model.rel_pos.fc2.weight, std=0.5)
    graphs, backend = counting_backend()
    net = compiled(model, dynamic=True, backend=backend)
    for size in ((24, 40), (18, 25), (9, 11), (3, 5), (16, 12), (33, 23), (25, 18), (32, 16)):
        x = torch.randn(2, *size, 8, dtype=torch.float64)
        values = [loss_and_gradients(form, model, x) for form in (net, model)]
        assert_near(*values, 1e-9)
    assert len(graphs) <= 3  # with and without room for the missing slots of a side


def test_one_graph_for_large_sizes_in_single_precision():
    # Sizes with and without missing slots, above those at which torch takes its own convolution.
    model = GlobalScaleDilatedAttention(32, 2, 8).eval()
    graphs, backend = counting_backend()
    net = compiled(model, dynamic=True, backend=backend)
    for size in ((40, 48), (41, 48), (40, 33), (57, 63), (64, 64)):
        x = torch.randn(2, *size, 32)
        assert_near([outputs(net, x)], [outputs(model, x)])
    assert len(graphs) == 1


@pytest.mark.slow
def test_dynamic_sizes_of_the_network():
    model = mini(out_indices=0)
    net = compiled(model, dynamic=True)
    for size in ((72, 100), (100, 60)):
        x = torch.randn(2, 3, *size)
        assert_near(outputs(net, x), outputs(model, x))


@pytest.mark.slow
def test_a_classifier():
    from mmpretrain.models import ImageClassifier

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = ImageClassifier(
            backbone=dict(type='ScopeViT', arch=ARCH, out_indices=3),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=5, in_channels=32),
        ).eval()
    x = torch.randn(2, 3, *RAGGED)
    assert_near([outputs(compiled(model), x)], [outputs(model, x)])


@pytest.mark.slow
@pytest.mark.parametrize('name', ['classification', 'detection'])
def test_training_with_the_switch_of_mmengine(name, make_task, tool):
    task = make_task(name)
    with task.config.open('a') as config:
        config.write("compile = dict(backend='eager')\n")
    code, err = tool('train', task.config, '--work-dir', task.work_dir)
    assert code == 0, err
    assert (task.work_dir / 'epoch_1.pth').is_file()

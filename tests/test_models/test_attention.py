"""GSDA's bias is made once and never stale, and a layer copies its map no more than it must."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from scopevit.models.scopevit import GlobalScaleDilatedAttention, MultiScaleSelfAttention

DIMS = 8


class Calls(TorchDispatchMode):
    """Keeps the name and the elements of every operator's first result."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        first = out[0] if isinstance(out, (tuple, list)) else out
        if isinstance(first, torch.Tensor):
            self.calls.append((func.overloadpacket.__name__, first.numel()))
        return out

    def count(self, *names, numel=0):
        return sum(name in names and found >= numel for name, found in self.calls)


COPIES = ('clone', 'copy_', 'contiguous', '_to_copy', 'cat', 'constant_pad_nd', 'index')


@pytest.fixture
def attn():
    torch.manual_seed(0)
    attn = GlobalScaleDilatedAttention(DIMS, 2, 4).eval()
    nn.init.normal_(attn.rel_pos.fc2.weight, std=0.5)
    return attn


def uncached(attn, x):
    """What a network with the same weights and nothing kept gives."""
    twin = GlobalScaleDilatedAttention(DIMS, 2, 4).to(x).eval()
    twin.load_state_dict(attn.state_dict())
    with torch.no_grad():
        return twin(x)


def assert_fresh(attn, x):
    """One call that may keep something, one that may use it."""
    with torch.no_grad():
        assert torch.equal(attn(x), uncached(attn, x))
        assert torch.equal(attn(x), uncached(attn, x))


def times_made(attn, x):
    with Calls() as calls:
        attn(x)
    return calls.count('relu')  # which nothing but the bias has


# The bias is made once ----------------------------------------------------------------------------


@pytest.mark.parametrize('size, kinds', [((8, 8), 1), ((4, 3), 1), ((10, 8), 2), ((10, 11), 4)])
@torch.no_grad()
def test_inference_makes_the_bias_once(attn, size, kinds):
    x = torch.randn(2, *size, DIMS)
    assert times_made(attn, x) == 1
    with Calls() as calls:
        attn(x)
    assert calls.count('convolution') == 2 * kinds  # qkv and projection
    assert calls.count('addmm', 'mm') == 0
    assert calls.count('index', 'relu', '_to_copy') == 0
    assert all(numel >= 2 * DIMS for _, numel in calls.calls)
    with Calls() as calls:
        attn(torch.randn(1, 4, 4, DIMS))  # another size: cut from the same bias
    assert calls.count('convolution') == 2
    assert calls.count('addmm', 'mm') == 0


@torch.no_grad()
def test_half_precision_casts_the_bias_once(attn):
    x = torch.randn(1, 8, 8, DIMS)
    with torch.autocast('cpu', torch.bfloat16):
        attn(x)
        with Calls() as calls:
            attn(x)
    assert attn.rel_pos.full().dtype == torch.float32
    assert calls.count('_to_copy') == 1  # the tokens; autocast itself keeps the cast weights


def test_training_makes_the_bias_anew(attn):
    x = torch.randn(1, 8, 8, DIMS)
    assert times_made(attn, x) == times_made(attn, x) == 1  # its weights want gradients
    attn.train()
    with torch.no_grad():
        assert not torch.equal(attn(x), attn(x))  # dropout
    frozen = attn.eval().requires_grad_(False)
    assert [times_made(frozen, x) for _ in range(2)] == [1, 0]


# The bias is never stale --------------------------------------------------------------------------


def other_weights():
    torch.manual_seed(1)
    other = GlobalScaleDilatedAttention(DIMS, 2, 4)
    nn.init.normal_(other.rel_pos.fc2.weight, std=0.5)
    return other.state_dict()


def load_all(attn):
    attn.load_state_dict(other_weights())


def load_part(attn):
    name = 'rel_pos.fc1.bias'
    attn.load_state_dict({name: other_weights()[name]}, strict=False)


def load_by_assignment(attn):
    attn.load_state_dict(other_weights(), assign=True)


def optimizer_step(attn):
    x = torch.randn(1, 8, 8, DIMS)
    optimizer = torch.optim.AdamW(attn.parameters(), lr=0.1)
    attn(x).square().sum().backward()
    optimizer.step()


def fused_optimizer_step(attn):
    attn(torch.randn(1, 8, 8, DIMS)).square().sum().backward()
    torch.optim.SGD(attn.parameters(), lr=0.1, fused=True).step()


def in_place(attn):
    with torch.no_grad():
        attn.rel_pos.fc2.bias.add_(torch.tensor([1.0, -1.0]))
        attn.rel_pos.fc1.weight.mul_(2)


def new_parameter(attn):
    attn.rel_pos.fc2.weight = nn.Parameter(torch.randn(2, 512))


def other_data(attn):
    for _ in range(2):  # the second may lie where the first's predecessor did
        attn.rel_pos.fc2.weight.data = attn.rel_pos.fc2.weight.data * 2


def swapped_data(attn):
    """As MMEngine's EMAHook, before the model is set to eval mode."""
    for name, p in attn.named_parameters():
        p.data.copy_(other_weights()[name])
    attn.eval()


def trained_and_back(attn):
    attn.train()
    for name, p in attn.named_parameters():
        p.data.copy_(other_weights()[name])
    attn.eval()


@pytest.mark.parametrize(
    'change',
    [load_all, load_part, load_by_assignment, optimizer_step, fused_optimizer_step, in_place,
     new_parameter, other_data, swapped_data, trained_and_back],
)  # fmt: skip
@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode])
def test_changed_weights_are_seen(attn, change, mode):
    x = torch.randn(1, 10, 8, DIMS)
    with mode():
        before = attn(x)
        attn(x)
    change(attn)
    with mode():
        after = attn(x)
    assert not torch.equal(after, before)
    assert torch.equal(after, uncached(attn, x))


def test_sizes_types_and_devices(attn):
    for size in ((8, 8), (10, 8), (3, 5), (8, 8), (17, 23)):
        assert_fresh(attn, torch.randn(2, *size, DIMS))
    x = torch.randn(1, 10, 11, DIMS)
    assert_fresh(attn.double(), x.double())
    assert_fresh(attn.float(), x)
    assert_fresh(attn.bfloat16(), x.bfloat16())
    with torch.no_grad():
        assert attn.to('meta')(x.to('meta')).device.type == 'meta'


def test_autocast_and_back(attn):
    x = torch.randn(1, 8, 8, DIMS)
    with torch.no_grad():
        full = attn(x)
        with torch.autocast('cpu', torch.bfloat16):
            half = attn(x)
        assert half.dtype == torch.bfloat16
        assert torch.equal(attn(x), full)


def test_what_inference_mode_keeps_serves_gradients_later(attn):
    x = torch.randn(1, 10, 8, DIMS)
    attn.requires_grad_(False)
    with torch.inference_mode():
        attn(x)
    x.requires_grad_()
    attn(x).sum().backward()
    assert x.grad.abs().max() > 0


def test_copies_and_pickles_start_with_nothing(attn):
    x = torch.randn(1, 8, 8, DIMS)
    size = len(pickle.dumps(attn))
    with torch.no_grad():
        attn(x)
    assert attn.rel_pos._cache is not None
    assert len(pickle.dumps(attn)) == size
    assert 'cache' not in ''.join(attn.state_dict()) and len(attn.state_dict()) == 7
    for twin in (copy.deepcopy(attn), pickle.loads(pickle.dumps(attn))):
        assert twin.rel_pos._cache is None
        in_place(twin)
        assert_fresh(twin, x)
    assert_fresh(attn, x)


def test_in_ddp(attn, tmp_path):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path / "store"}', rank=0, world_size=1
    )
    try:
        x = torch.randn(1, 10, 8, DIMS)
        ddp = nn.parallel.DistributedDataParallel(attn)
        optimizer = torch.optim.SGD(ddp.parameters(), lr=0.1)
        for _ in range(2):
            ddp.eval()
            assert_fresh(attn, x)
            ddp.train()
            optimizer.zero_grad()
            ddp(x).square().sum().backward()
            optimizer.step()
    finally:
        torch.distributed.destroy_process_group()


def replica_of(module):
    """What `torch.nn.parallel.replicate`, and so DataParallel, gives a GPU: no parameters."""
    replica = module._replicate_for_data_parallel()
    for name, child in module._modules.items():
        setattr(replica, name, replica_of(child))
    for name, parameter in module._parameters.items():
        setattr(replica, name, None if parameter is None else parameter.clone())
    return replica


def test_a_replica_in_data_parallel(attn):
    x = torch.randn(1, 10, 8, DIMS)
    replica = replica_of(attn)
    assert not list(replica.parameters())
    replica(x).square().sum().backward()
    given = {name: parameter.grad for name, parameter in attn.named_parameters()}
    attn.zero_grad()
    attn(x).square().sum().backward()
    for name, parameter in attn.named_parameters():
        assert parameter.grad.abs().sum() > 0
        torch.testing.assert_close(given[name], parameter.grad)
    with torch.no_grad():
        assert torch.equal(replica_of(attn)(x), uncached(attn, x))
        in_place(attn)  # what the first replica made is of no use any more
        assert torch.equal(replica_of(attn)(x), uncached(attn, x))
    attn.train()
    replica_of(attn)(x).sum().backward()


# Copies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize('size', [(8, 8), (16, 8), (10, 8), (10, 11)])
@torch.no_grad()
def test_gsda_copies_its_map_once_in_and_once_out(attn, size):
    x = torch.randn(2, *size, DIMS)
    attn(x)
    with Calls() as calls:
        attn(x)
    copied = [numel for name, numel in calls.calls if name in ('clone', 'cat', 'constant_pad_nd')]
    if size in ((8, 8), (16, 8)):
        assert copied == [x.numel()] * 2
        assert calls.count('copy_', 'zeros', 'zero_', 'fill_') == 0
    else:
        assert 0 < sum(copied) <= x.numel()  # every token at most once, kind by kind
        written = [numel for name, numel in calls.calls if name == 'copy_']
        assert sum(written) == x.numel()
        assert calls.count('zeros', 'zero_', 'fill_', 'new_zeros') == 0


@torch.no_grad()
def test_no_slot_without_a_token_is_computed(attn):
    height, width = 10, 11  # dilations 3 and 3
    x = torch.randn(1, height, width, DIMS)
    attn(x)
    with Calls() as calls:
        attn(x)
    attended = [n for name, n in calls.calls if 'flash_attention' in name]
    assert sum(attended) == height * width * DIMS
    # Of each token, the query, key and value and the projection.
    linear = [n for name, n in calls.calls if name == 'convolution']
    assert sum(linear) == 4 * height * width * DIMS


@torch.no_grad()
def test_a_map_of_one_group_is_not_copied(attn):
    x = torch.randn(2, 4, 4, DIMS)
    attn(x)
    with Calls() as calls:
        attn(x)
    assert calls.count(*COPIES) == 0


@pytest.mark.parametrize('stride, keys', [(1, 16 * 24), (2, 8 * 12), (4, 5 * 7)])
@torch.no_grad()
def test_mssa_copies_no_map_but_its_keys(stride, keys):
    attn = MultiScaleSelfAttention(16, 4, stride, (2, 1, 1), dict(type='BN')).eval()
    x = torch.randn(2, 16, 24, 16)
    with Calls() as calls:
        attn(x)
    copied = [numel for name, numel in calls.calls if name in COPIES]
    assert copied == [2 * keys * 16]


# What tools see inside ----------------------------------------------------------------------------


def attend_by_hand(inputs):
    """(G, heads, S, D) of queries, keys, values and bias; softmax written out."""
    logits = inputs.queries @ inputs.keys.transpose(-1, -2) * inputs.queries.shape[-1] ** -0.5
    return (logits + (0 if inputs.bias is None else inputs.bias)).softmax(-1) @ inputs.values


@torch.no_grad()
def test_inputs_of_mssa_are_what_it_computes_with():
    attn = MultiScaleSelfAttention(16, 4, 2, (2, 1, 1), dict(type='BN')).double().eval()
    x = torch.randn(2, 9, 12, 16, dtype=torch.float64)
    (inputs,) = attn.inputs(x)
    assert inputs.queries.shape == (2, 4, 9 * 12, 4)
    assert inputs.keys.shape == inputs.values.shape == (2, 4, 5 * 6, 4)
    assert attn.kernel_sizes == [7, 7, 5, 3]
    out = attn.proj(attend_by_hand(inputs).transpose(1, 2).reshape(x.shape))
    torch.testing.assert_close(out, attn(x))


@pytest.mark.parametrize('size, kinds', [((8, 8), 1), ((10, 8), 2), ((10, 11), 4)])
@torch.no_grad()
def test_inputs_of_gsda_are_what_it_computes_with(attn, size, kinds):
    attn, x = attn.double(), torch.randn(2, *size, DIMS, dtype=torch.float64)
    out = torch.full((2, size[0] * size[1], DIMS), float('nan'), dtype=torch.float64)
    inputs = attn.inputs(x)
    assert len(inputs) == kinds
    for kind in inputs:
        groups_an_image = len(kind.tokens) // 2
        mixed = attn.proj(attend_by_hand(kind).transpose(1, 2).flatten(2)[:, None])[:, 0]
        for group, tokens, values in zip(range(len(mixed)), kind.tokens, mixed):
            out[group // groups_an_image, tokens] = values
    torch.testing.assert_close(out.reshape(x.shape), attn(x))  # every token, in one group

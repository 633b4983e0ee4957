"""Ways to run a network: eager, deployed, compiled, in half precision."""

import copy

import torch
from torch import nn

from scopevit.benchmark.networks import TensorForward
from scopevit.benchmark.plain import PlainScopeViT
from scopevit.benchmark.timing import Pass
from scopevit.errors import InputError
from scopevit.models.scopevit import ScopeViT

# Parts that are another type than float32: by autocast, which casts the weights at every pass, or
# the whole network converted once (timm's `--precision bfloat16` and `float16`).
AUTOCAST = {'bf16': torch.bfloat16}
CONVERTED = {'pure-bf16': torch.bfloat16, 'pure-fp16': torch.float16}
PARTS = (
    'plain', 'eager', 'channels-last', 'deployed', 'compiled', 'checkpointed',
    *AUTOCAST, *CONVERTED,
)  # fmt: skip
# Of each of these a form has one part at most.
EXCLUSIVE = {'plain', 'deployed', 'checkpointed'}, {*AUTOCAST, *CONVERTED}
INFERENCE, TRAINING = 'inference', 'training'
# Not the backbone's 1e-6, which would hide differences of the attention in the outputs.
LAYER_SCALE = 0.5


def check_form(form: str, mode: str) -> None:
    """Raises an InputError unless a form is parts of `PARTS`, joined by '+', that suit a mode."""
    parts = form.split('+')
    if not set(parts) <= set(PARTS) or len(set(parts)) < len(parts):
        raise InputError(f'--forms takes {", ".join(PARTS)}, joined by "+", not {form!r}')
    if any(len(group & set(parts)) > 1 for group in EXCLUSIVE):
        raise InputError(f'--forms: the parts of {form!r} do not go together')
    unfit = 'deployed' if mode == TRAINING else 'checkpointed'
    if unfit in parts:
        raise InputError(f'--forms: {form!r} has no {mode}')


def make_backbone(form: str, arch: str) -> nn.Module:
    """Builds the backbone in a form, in eval mode; every form has the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ScopeViT(
            arch, layer_scale_init_value=LAYER_SCALE, with_cp='checkpointed' in form.split('+')
        ).eval()
    return in_form(model, form)


def in_form(backbone: ScopeViT, form: str) -> nn.Module:
    """Returns a backbone as the parts 'plain' and 'deployed' of a form want it."""
    if 'plain' in form.split('+'):
        plain = PlainScopeViT(backbone.arch).eval()
        plain.load_state_dict(backbone.state_dict())
        return plain
    if 'deployed' in form.split('+'):
        backbone.switch_to_deploy()
    return backbone


def make_classifier(form: str, module: TensorForward) -> nn.Module:
    """Returns a copy of an mmpretrain classifier in a form."""
    module = copy.deepcopy(module)
    if isinstance(getattr(module.model, 'backbone', None), ScopeViT):
        module.model.backbone = in_form(module.model.backbone, form)
    return module


def make_pass(module: nn.Module, form: str, mode: str, device: str = 'cpu') -> Pass:
    """Returns a pass of a network that is in a form, but for compiling it."""
    parts = form.split('+')
    amp = next((dtype for part, dtype in AUTOCAST.items() if part in parts), None)
    dtype = next((dtype for part, dtype in CONVERTED.items() if part in parts), None)
    return Pass(module, device, mode == TRAINING, 'channels-last' in parts, amp, dtype)


def precision(form: str) -> str:
    """Returns torch's name of the type in which a form computes its products."""
    types = AUTOCAST | CONVERTED
    found = (dtype for part, dtype in types.items() if part in form.split('+'))
    return str(next(found, torch.float32)).removeprefix('torch.')

"""Ways to run a network: eager, deployed, compiled, in half precision; and one pass of it."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from scopevit.benchmark.memory import tensors_of
from scopevit.benchmark.plain import PlainScopeViT
from scopevit.benchmark.speed import COMPILE_LIMIT, synchronize
from scopevit.errors import InputError
from scopevit.models.scopevit import ScopeViT

PARTS = ('plain', 'eager', 'channels-last', 'deployed', 'compiled', 'checkpointed', 'bf16')
INFERENCE, TRAINING = 'inference', 'training'
# Not the backbone's 1e-6, which would hide differences of the attention in the outputs.
LAYER_SCALE = 0.5


def check_form(form: str, mode: str) -> None:
    """Raises an InputError unless a form is parts of `PARTS`, joined by '+', that suit a mode."""
    parts = form.split('+')
    if not set(parts) <= set(PARTS) or len(set(parts)) < len(parts):
        raise InputError(f'--forms takes {", ".join(PARTS)}, joined by "+", not {form!r}')
    if len({'plain', 'deployed', 'checkpointed'} & set(parts)) > 1:
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


def make_classifier(form: str, module: nn.Module) -> nn.Module:
    """Returns a copy of an mmpretrain classifier in a form."""
    module = copy.deepcopy(module)
    if isinstance(getattr(module.model, 'backbone', None), ScopeViT):
        module.model.backbone = in_form(module.model.backbone, form)
    return module


class Pass:
    """A forward pass of a network in a form, in training with its backward pass.

    Args:
        module: Network, as `make_backbone` or `make_classifier` return it.
        form: How to run it.
        mode: 'inference' or 'training'.
        images: (B, C, H, W).
        device: 'cpu' or 'cuda'.
    """

    def __init__(
        self, module: nn.Module, form: str, mode: str, images: Tensor, device: str = 'cpu'
    ) -> None:
        self.parts, self.mode, self.device = form.split('+'), mode, device
        is_last = 'channels-last' in self.parts
        layout = torch.channels_last if is_last else torch.contiguous_format
        self.module = module.train(mode == TRAINING).to(device, memory_format=layout)
        self.images = images.to(device).contiguous(memory_format=layout)
        # Static shapes: every size is compiled for itself.
        self.forward = self.module
        if 'compiled' in self.parts:
            self.forward = torch.compile(self.module, dynamic=False)

    def prepare(self) -> None:
        """Runs it for the first time, which compiles it where the form says so.

        For inference, weights become constants, which oneDNN gets in the layout that it wants.
        """
        limit = torch._dynamo.config.patch(cache_size_limit=COMPILE_LIMIT)
        with limit, torch._inductor.config.patch(freezing=True):
            self()

    def __call__(self, guard: Callable = torch.inference_mode) -> object:
        """Runs it once; returns the outputs of the forward pass.

        Args:
            guard: `torch.inference_mode`, or `torch.no_grad`, under which all operators
                can be watched. Training does without.
        """
        amp = torch.autocast(self.device, torch.bfloat16, enabled='bf16' in self.parts)
        if self.mode == INFERENCE:
            with guard(), amp:
                outs = self.forward(self.images)
        else:
            self.module.zero_grad(set_to_none=True)
            with amp:
                outs = self.forward(self.images)
            loss = sum(out.float().square().mean() for out in tensors_of(outs))
            loss.backward()
        synchronize(self.device)
        return outs

"""Checkpoints, damaged, and what comes with them: their configs, the JSON beside exports."""

import io
import json
import random
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from mini import MINI
from strangers import Exploit
from tasks import CONFIGS
from torch import nn

from fuzzing.kind import Kind
from fuzzing.mutations import ODD, mutate_bytes, mutate_text, mutate_value
from scopevit.checkpoint import read_checkpoint
from scopevit.engine.checks.weights import (
    check_model_weights,
    read_last_checkpoint,
    read_resumable,
    read_weights,
)
from scopevit.engine.config import load_config
from scopevit.engine.model import build_model, load_weights
from scopevit.export.exported import as_checkpoint, description_of, hash_files, read_description
from scopevit.inference.predictor import Predictor
from scopevit.inference.recipe import find_recipe
from scopevit.models.convert import backbone_weights
from scopevit.state_dict import unwrap_state_dict

PIXELS = np.zeros((64, 64, 3), np.uint8)
INPUTS = torch.zeros(1, 3, 64, 64)


@cache
def miniature() -> tuple[nn.Module, dict[str, Any]]:
    """Returns a small classifier, and the checkpoint of it."""
    parts = [(CONFIGS / f'{part}.py').read_text() for part in ('common', 'classification')]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'classification.py')
        path.write_text('\n'.join([f'arch = {MINI}', *parts]))
        config = load_config(path)
    torch.manual_seed(0)
    model = build_model(config).eval()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    names = dict(classes=('a', 'b', 'c'))
    meta = dict(cfg=config.pretty_text, dataset_meta=names, epoch=1, iter=2)
    return model, dict(meta=meta, state_dict=weights, message_hub=dict(log_scalars={}))


def small() -> tuple[nn.Module, dict[str, Any]]:
    """Returns a network of two layers, and a checkpoint of it: quicker to read."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    whole = miniature()[1]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    return model, dict(whole, state_dict=weights)


class Checkpoint(Kind):
    """A checkpoint of `torch.save`, with other values in it; loaded into the miniature."""

    def __init__(self, folder: Path, canary: Path) -> None:
        super().__init__(folder, canary)
        self.networks = [miniature(), *[small()] * 4]
        self.content = miniature()[1]

    def take(self, chance: random.Random) -> None:
        path = self.folder / 'damaged.pth'
        self.model, content = chance.choice(self.networks)
        if chance.random() < 0.6:
            weights = content['state_dict']
            others = {key: value for key, value in content.items() if key != 'state_dict'}
            others = mutate_value(others, chance)
            content = dict(state_dict=weights) | others if isinstance(others, dict) else others
        if isinstance(content, dict) and chance.random() < 0.6:
            content = dict(content)
            content['state_dict'] = self.damaged_weights(content.get('state_dict'), chance)
        if isinstance(content, dict) and chance.random() < 0.05:
            content = chance.choice([content.get('state_dict'), [content], *ODD[:8]])
        is_old = chance.random() < 0.2
        torch.save(content, path, _use_new_zipfile_serialization=not is_old)
        self.use(path, chance)

    def damaged_weights(self, weights: Any, chance: random.Random) -> Any:
        """Returns weights of which one is of another type, shape or name."""
        if not isinstance(weights, dict) or not weights:
            return chance.choice(ODD)
        weights = dict(weights)
        name = chance.choice(list(weights))
        value = weights[name]
        others: list[Any] = [
            value.double(), value.half(), value.to(torch.complex64), value.long(), value[None],
            value.to_sparse() if value.ndim else value, value.to('meta'), value.flatten()[:0],
            value * float('nan'), value.new_zeros(1).expand(10**9), nn.Parameter(value.float()),
            torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8), value.bool(),
            Exploit(self.canary), Exploit, print, {name: value}, value.numpy(), np.float32(1),
            torch.device('cpu'), torch.Size([1]), *ODD,
        ]  # fmt: skip
        kind = chance.randrange(8)
        if kind == 0:
            weights.pop(name)
        elif kind == 1:
            weights[chance.choice(['x', f'module.{name}', 'backbone', '', name * 100])] = value
        elif kind == 2:
            weights[chance.choice([0, None, (1, 2), True])] = value
        else:
            weights[name] = chance.choice(others)
        return weights

    def use(self, path: Path, chance: random.Random) -> None:
        """Loads a checkpoint in one of the ways that there are."""
        takes: list[Callable[[Path], object]] = [self.load, self.convert, read_resumable]
        if self.model is miniature()[0]:
            takes = [self.load, lambda path: Predictor(path, 'cpu')(PIXELS)]
        chance.choice(takes)(path)

    def load(self, path: Path) -> None:
        """Loads weights as a test does."""
        content = read_weights(path)
        check_model_weights(self.model, content, path)
        load_weights(self.model, content)
        with torch.inference_mode():
            self.model(INPUTS)

    def convert(self, path: Path) -> None:
        """Finds the weights as the converters and `--pretrained` do."""
        content = read_checkpoint(path)
        unwrap_state_dict(content, path)
        backbone_weights(content, path)


class CheckpointBytes(Checkpoint):
    """A checkpoint with other bytes: anywhere, or in its pickle with all checksums right."""

    @cached_property
    def whole(self) -> list[bytes]:
        good = dict(small()[1], optimizer=dict(state={0: dict(step=torch.tensor(1.0))}))
        found = []
        for content in (good, Exploit(self.canary), dict(good, state_dict=Exploit(self.canary))):
            for is_new in (True, False):
                file = io.BytesIO()
                torch.save(content, file, _use_new_zipfile_serialization=is_new)
                found.append(file.getvalue())
        return found

    def take(self, chance: random.Random) -> None:
        path = self.folder / 'damaged.pth'
        self.model = self.networks[-1][0]
        whole = self.whole[chance.choice([0, 0, 0, 0, 1, 1, 2, 3, 4, 5])]
        if zipfile.is_zipfile(io.BytesIO(whole)) and chance.random() < 0.6:
            path.write_bytes(repacked(whole, chance))
        else:
            path.write_bytes(mutate_bytes(whole, chance))
        self.use(path, chance)


def repacked(whole: bytes, chance: random.Random) -> bytes:
    """Returns a zip archive one of whose members has other bytes, or is missing or named anew."""
    source, target = zipfile.ZipFile(io.BytesIO(whole)), io.BytesIO()
    infos = source.infolist()
    pickled = next(info for info in infos if info.filename.endswith('data.pkl'))
    damaged = pickled if chance.random() < 0.8 else chance.choice(infos)
    with zipfile.ZipFile(target, 'w', zipfile.ZIP_STORED) as archive:
        for info in infos:
            content, name = source.read(info), info.filename
            if info is damaged:
                content = mutate_bytes(content, chance)
                name = chance.choice([name] * 20 + ['data.pkl', f'../{name}', '/x', name[:-1]])
            archive.writestr(name, content)
    return target.getvalue()


class Safetensors(Checkpoint):
    """Weights in safetensors, whose header or bytes are damaged."""

    @cached_property
    def whole(self) -> bytes:
        return safetensors.torch.save(small()[1]['state_dict'])

    def take(self, chance: random.Random) -> None:
        path = self.folder / 'damaged.safetensors'
        self.model = self.networks[-1][0]
        size = int.from_bytes(self.whole[:8], 'little')
        if chance.random() < 0.6:
            header = json.loads(self.whole[8 : 8 + size])
            text = json.dumps(mutate_value(header, chance)).encode()
            length = chance.choice([len(text)] * 10 + [len(text) + 1, 0, 2**40, 2**63])
            path.write_bytes(length.to_bytes(8, 'little') + text + self.whole[8 + size :])
        else:
            path.write_bytes(mutate_bytes(self.whole, chance))
        self.use(path, chance)


class StoredConfig(Checkpoint):
    """The config in a checkpoint, or beside it: data, whatever it looks like."""

    def take(self, chance: random.Random) -> None:
        path = self.folder / 'damaged.pth'
        text = mutate_text(self.content['meta']['cfg'], chance, str(self.canary))
        meta = dict(self.content['meta'], cfg=text)
        if chance.random() < 0.3:
            meta.pop('dataset_meta')
        recipe = find_recipe({'meta': meta}, path, None)
        content = dict(self.content, meta=meta)
        torch.save(content, path)
        Predictor(path, 'cpu')(PIXELS)
        assert recipe.library.name


class ExportedJson(Checkpoint):
    """The JSON beside an exported file."""

    def take(self, chance: random.Random) -> None:
        path = self.folder / 'damaged.onnx'
        path.write_bytes(b'graph')
        content = dict(
            task='classification', config=self.content['meta']['cfg'], classes=['a', 'b', 'c'],
            input=dict(shape=['batch', 64, 64, 3]), outputs=['probabilities'],
            settings=dict(pipeline='BGR', is_multi_label=False), sha256=hash_files(path),
        )  # fmt: skip
        self.write_json(description_of(path), content, chance)
        about = read_description(path)
        find_recipe(as_checkpoint(about, path), path, None)


class Pointer(Checkpoint):
    """The file that names the last checkpoint of a training."""

    def take(self, chance: random.Random) -> None:
        folder = self.folder / 'damaged'
        folder.mkdir(exist_ok=True)
        whole = folder / 'epoch_1.pth'
        if not whole.is_file():
            torch.save(small()[1], whole)
        self.write_text(folder / 'last_checkpoint', str(whole), chance)
        found = read_last_checkpoint(folder)
        assert found is not None and found.path.name == whole.name

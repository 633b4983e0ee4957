"""Settings and small files of the commands, damaged."""

import argparse
import copy
import json
import random
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from mini import MINI
from mmengine.config import Config
from tasks import CONFIGS

from fuzzing.kind import Kind
from fuzzing.mutations import mutate_text, payload
from scopevit.analysis.logs import read_run, summarize
from scopevit.benchmark.published import read_published
from scopevit.benchmark.zoo import as_stored, read_scores
from scopevit.cli import add_config_options
from scopevit.engine.checks.kinds import check_kinds
from scopevit.engine.config import load_config, merge_options, require, set_loader_defaults
from scopevit.engine.explain import input_errors
from scopevit.engine.libraries import find_library
from scopevit.engine.model import build_model
from scopevit.hf import model_card
from scopevit.inference.predictor import find_boxes
from scopevit.inference.run import read_boxes
from scopevit.inference.sources import Item
from scopevit.metafile import read_metafile

TASKS = ('classification', 'detection', 'segmentation', 'pose')
# Numbers that make no network of a size that no machine has.
SMALL = ('0', '-1', '1', '2', '3', '0.5', '1e-9', 'nan', 'None', 'True', '"a"', '[1,2]', '(1,)', '')


class Override(Kind):
    """`--cfg-options`: the config is merged and checked, and its model built."""

    names = ('--cfg-options', 'damaged.py', 'default_scope', 'is not installed')

    @cached_property
    def configs(self) -> list[tuple[Config, list[str]]]:
        found = []
        for task in TASKS:
            path = self.folder / task / 'damaged.py'
            path.parent.mkdir()
            parts = [(CONFIGS / f'{part}.py').read_text() for part in ('common', task)]
            path.write_text('\n'.join([f'arch = {MINI}', *parts]))
            cfg = load_config(path)
            found.append((cfg, keys_of(cfg.to_dict())))
        return found

    def take(self, chance: random.Random) -> None:
        cfg, keys = chance.choice(self.configs)
        pairs = [self.pair(keys, chance) for _ in range(chance.choice([1, 1, 2, 3]))]
        parser = argparse.ArgumentParser()
        add_config_options(parser)
        options = parser.parse_args(['--cfg-options', *pairs]).cfg_options
        cfg = copy.deepcopy(cfg)
        merge_options(cfg, options)
        check_kinds(cfg, str(cfg.filename))
        library = find_library(cfg.get('default_scope'))
        require(cfg, 'model')
        set_loader_defaults(cfg, library)
        with input_errors(str(cfg.filename)):
            build_model(cfg)

    def pair(self, keys: list[str], chance: random.Random) -> str:
        """Returns a KEY=VALUE, or what somebody took for one."""
        key = chance.choice(keys)
        if chance.random() < 0.2:
            key = mutate_text(key, chance, str(self.canary))
        kind = chance.random()
        if kind < 0.6:
            value = chance.choice(SMALL)
        elif kind < 0.8:
            value = payload(chance, str(self.canary))
        else:
            value = mutate_text('[(a,b),(c,1.5)]', chance, str(self.canary))
        pair = f'{key}={value}'
        return pair if not pair.startswith('-') else f'x{pair}'


def keys_of(cfg: Any, prefix: str = '') -> list[str]:
    """Returns the dotted keys of all values in a config."""
    items = cfg.items() if isinstance(cfg, dict) else enumerate(cfg)
    found = []
    for key, value in items:
        found.append(f'{prefix}{key}')
        if isinstance(value, (dict, list)):
            found += keys_of(value, f'{prefix}{key}.')
    return found


class DataConfig(Kind):
    """A config in YAML or JSON, which is read and merged as one in Python."""

    @cached_property
    def text(self) -> str:
        return (
            'default_scope: mmpretrain\n'
            'model:\n  type: ImageClassifier\n  backbone:\n    type: ScopeViT\n    arch: xtiny\n'
            '  head: {type: LinearClsHead, num_classes: 3, in_channels: 32, topk: [1, 2]}\n'
            "train_cfg: &cfg {by_epoch: true, max_epochs: 1}\nval_cfg: *cfg\nlr: !!float '0.1'\n"
            'shape: !!python/tuple [1, 2]\n'
        )

    def take(self, chance: random.Random) -> None:
        if chance.random() < 0.6:
            path = self.folder / 'damaged.yaml'
            self.write_text(path, self.text, chance)
        else:
            path = self.folder / 'damaged.json'
            content = dict(model=dict(type='A', backbone=dict(type='B')), train_cfg=dict(x=[1, 2]))
            self.write_json(path, content, chance)
        cfg = load_config(path)
        assert cfg.pretty_text is not None


class YamlIndex(Kind):
    """YAML that lists models, with other values, tokens or bytes in it."""

    def write_yaml(self, path: Path, content: Any, chance: random.Random) -> None:
        if chance.random() < 0.5:
            text = yaml.safe_dump(content, sort_keys=False)
            self.write_text(path, text, chance)
        else:
            self.write_json(path, content, chance)  # which is YAML, too


class Metafile(YamlIndex):
    """A metafile, as the zoo and model cards read it."""

    def take(self, chance: random.Random) -> None:
        path = self.folder / 'damaged.yml'
        result = dict(Task='Image Classification', Dataset='x', Metrics={'Top 1 Accuracy': 77.5})
        meta = {'FLOPs': 1_955_094_336, 'Parameters': 7_752_286, 'Training Data': 'x'}
        models = [
            {'Name': name, 'Config': f'{name}.py', 'Metadata': meta, 'Results': results}
            for name, results in (('a', [result]), ('b', None))
        ]
        self.write_yaml(path, dict(Collections=[dict(Name='x')], Models=models), chance)
        for scores in read_scores(path).values():
            assert all(0 <= as_stored(score).mean <= 100 and str(score) for score in scores)
        network = torch.nn.Linear(1, 1)
        network.num_classes = 3
        for entry in read_metafile(path).values():
            assert model_card('tiny', network, entry, {}, 'damaged')


class PublishedResults(YamlIndex):
    """What others have published, as `tools/benchmark/table.py` reads it."""

    def take(self, chance: random.Random) -> None:
        path = self.folder / 'damaged.yml'
        row = dict(system='A', params=7.8, gflops=2, resolution=224, top1=80, venue='x')
        rows = [row | dict(config=None), row | dict(config='scopevit-tiny_8xb128_in1k')]
        self.write_yaml(path, rows, chance)
        for entry in read_published(path):
            assert entry.params > 0 and (entry.recipe is None or entry.recipe.is_file())


class Boxes(Kind):
    """The JSON of boxes of `scopevit predict --boxes`."""

    def take(self, chance: random.Random) -> None:
        path = self.folder / 'damaged.json'
        content = {'a.jpg': [[1, 2, 30, 40], [1, 2, 3, 4]], 'b.jpg': [], 'c.jpg': [[0, 0, 9, 9, 1]]}
        self.write_json(path, content, chance)
        boxes = read_boxes(path)
        for name in ('a.jpg', 'c.jpg'):
            found = find_boxes(boxes, Item(name, name, path=Path(name)))
            assert found is not None and found.shape[1:] == (5,)


class Log(Kind):
    """Lines of JSON that a training has logged."""

    def take(self, chance: random.Random) -> None:
        path = self.folder / 'damaged.json'
        lines = [dict(lr=0.1, loss=1 / i, time=0.1, epoch=1, iter=i, step=i) for i in range(1, 4)]
        lines.append({'accuracy/top1': 50.0, 'step': 1})
        text = ''.join(f'{json.dumps(line)}\n' for line in lines)
        self.write_text(path, text, chance)
        summarize(read_run(path, 'run'))

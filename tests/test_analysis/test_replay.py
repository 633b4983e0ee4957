"""The step that ended a training, repeated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from killed import RANDOM
from mmpretrain.models import ImageClassifier
from tasks import Task
from torch import Tensor, nn

from scopevit.analysis import replay
from scopevit.engine import failed

KINDS = {
    'epochs, workers': 'train_dataloader["num_workers"] = 2',
    'endless sampler': (
        'train_cfg = dict(by_epoch=False, max_iters=12, val_interval=12)\n'
        "train_dataloader['sampler'] = dict(type='InfiniteSampler', shuffle=True)"
    ),
}


@pytest.fixture
def task(make_task: Callable[[str], Task]) -> Task:
    task = make_task('classification')
    task.config.write_text(task.config.read_text() + RANDOM)
    return task


@pytest.mark.parametrize('kind', list(KINDS))
def test_a_step_is_repeated_to_the_last_bit(
    kind: str, task: Task, fails: Callable[..., str], tool: Callable[..., tuple[int, str]],
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen: list[tuple[Tensor, Tensor]] = []
    loss_of = ImageClassifier.loss

    def loss(self: Any, inputs: Tensor, samples: Any) -> Any:
        losses = loss_of(self, inputs, samples)
        seen.append((inputs, losses['loss']))  # of images that are cut, flipped and mixed
        wrong = torch.nan if len(seen) >= 6 else 1
        return {'loss': losses['loss'] * wrong, 'loss_other': losses['loss'].detach()}

    monkeypatch.setattr(ImageClassifier, 'loss', loss)
    task.config.write_text(f'{task.config.read_text()}{KINDS[kind]}\n')
    line = fails('train', task.config, '--work-dir', task.work_dir)
    saved = [task.work_dir / f'failed_iter_6{ending}' for ending in ('.py', '.pth')]
    assert 'the loss is nan at iteration 6' in line
    assert f'; tools/analysis_tools/replay.py {saved[0]} {saved[1]} repeats the step' in line

    print(replay.replay(*saved))
    report = capsys.readouterr().out
    assert len(seen) == 7
    assert torch.equal(seen[5][0], seen[6][0])
    assert torch.equal(seen[5][1], seen[6][1])
    assert not torch.equal(seen[4][0], seen[5][0])
    assert report.startswith('Iteration 6, 2 samples:\n')
    value = f'{seen[5][1].item():.6g}'
    assert f'| loss_other       | {value} | {value} |' in report
    assert '2 of 2 terms are as they were.' in report
    assert 'Every module answers numbers' in report
    assert not list(task.work_dir.glob('*.pth.*'))

    # Other data, then none that is missing.
    options = ('train_dataloader.dataset.indices=1',)
    error = fails('analysis_tools/replay', *saved, '--cfg-options', *options)
    assert 'the data is other data: 1 samples, the step has ' in error
    code, err = tool('analysis_tools/replay', *saved)
    assert code == 0, err


def test_modules_that_go_wrong_are_named(task: Task, fails: Callable[..., str]) -> None:
    line = fails('train', task.config, '--work-dir', task.work_dir, '--cfg-options',
                 'optim_wrapper.optimizer.lr=1e25', 'optim_wrapper.clip_grad=None')  # fmt: skip
    assert 'at iteration 2' in line
    report = replay.replay(*(task.work_dir / f'failed_iter_2{end}' for end in ('.py', '.pth')))
    assert 'terms are as they were' in report
    [named] = [part for part in report.splitlines() if part.startswith('Numbers in, but not out')]
    assert 'backbone.' in named
    assert 'Weights that are no numbers' not in report


def test_what_is_no_number() -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sqrt()

    model = nn.Sequential(nn.Identity(), Root(), nn.Sequential(nn.ReLU()))
    with replay.first_wrong(model) as found:
        model(torch.tensor([4.0, -1.0]))
    assert found == ['1 (Root)']  # what comes after got what is none
    model(torch.tensor([4.0, -1.0]))
    assert found == ['1 (Root)']

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(self.inner(x) * torch.inf)

    with replay.first_wrong(nn.Sequential(Block())) as found:
        Block()(torch.tensor(1.0))
        nn.Sequential(Block())(torch.tensor(1.0))
    assert found == []  # others than the model's
    model = nn.Sequential(Block(), nn.Identity())
    with replay.first_wrong(model) as found:
        model(torch.tensor(1.0))
    assert found == ['0 (Block)']  # by what it does itself
    assert replay.has_wrong({'a': [torch.tensor(1), (torch.tensor(torch.inf),)]})
    assert not replay.has_wrong({'a': [torch.tensor(1), None, 'b']})
    found_weights = dict(terms={'loss': 1.0}, modules=[], weights=list('abcd'))
    meta = dict(iter=0, draws=[], terms={'loss': torch.nan})
    report = replay.describe(meta, found_weights)
    assert '0 of 1 terms are as they were.' in report
    assert 'no numbers: a, b, c and 1 more. The step before did it.' in report


def test_other_files_are_refused(tmp_path: Path, fails: Callable[..., str], task: Task) -> None:
    path = tmp_path / 'a.pth'
    torch.save({'meta': {}, 'state_dict': {}}, path)
    line = fails('analysis_tools/replay', task.config, path)
    assert (
        line == f'error: {path} is not the failed step of a training, it has no message_hub, random'
    )
    torch.save(dict.fromkeys(replay.PARTS, {}), path)
    line = fails('analysis_tools/replay', task.config, path)
    assert line.endswith(
        'it has no meta.seed, meta.epoch, meta.iter, meta.draws, meta.skip_bad_samples, meta.terms'
    )


def test_a_disk_that_is_full(task: Task, fails: Callable[..., str], monkeypatch) -> None:
    def full(*args: object) -> None:
        raise RuntimeError('No space left on device')

    monkeypatch.setattr(failed.torch, 'save', full)
    line = fails('train', task.config, '--work-dir', task.work_dir, '--cfg-options',
                 'optim_wrapper.optimizer.lr=1e25', 'optim_wrapper.clip_grad=None',
                 'default_hooks.checkpoint.interval=9')  # fmt: skip
    assert line.endswith('; the step is not saved: No space left on device')
    assert not list(task.work_dir.glob('failed*'))

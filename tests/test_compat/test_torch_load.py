"""mmengine's own checkpoints load weights-only, and those with code do not."""

import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.optim import OneCycleLR
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

import scopevit  # noqa: F401  applies the shim


class Points(Dataset):
    # numpy of several kinds, as the data sets of mmpose have it
    metainfo = dict(
        classes=('a', 'b'),
        sigmas=np.ones(3, np.float32),
        palette=np.zeros((2, 3), np.uint8),
        flags=np.array([True]),
        links=np.array([], np.uint8),  # of a skeleton without any
        names=np.array(['left', 'right']),
    )

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.full((3,), float(index)), index % 2


class Linear(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, inputs, labels, mode='tensor'):
        output = self.layer(inputs)
        if mode == 'loss':
            return {'loss': nn.functional.cross_entropy(output, labels)}
        return [output]


class Constant(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        return {'score': np.float32(0.25)}


def make_runner(work_dir, epochs, resume):
    loader = dict(
        dataset=Points(),
        batch_size=2,
        sampler=dict(type='DefaultSampler'),
        num_workers=0,
        collate_fn=dict(type='default_collate'),
    )
    return Runner(
        Linear(),
        str(work_dir),
        train_dataloader=loader,
        val_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        val_cfg=dict(),
        val_evaluator=[Constant()],
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=[dict(type='OneCycleLR', eta_max=0.1, total_steps=20)],
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', save_best='score', rule='greater')
        ),
        custom_hooks=[dict(type='EMAHook')],
        resume=resume,
        experiment_name=f'resume{resume}',
    )


def test_resume_of_a_training(tmp_path):
    first = make_runner(tmp_path, 2, resume=False)
    first.train()
    losses = first.message_hub.get_scalar('train/loss').data[0]
    assert len(losses) == 4
    second = make_runner(tmp_path, 3, resume=True)
    second.train()
    assert (second.epoch, second.iter) == (3, 6)
    history = second.message_hub.get_scalar('train/loss')
    assert len(history.data[0]) == 6 and history.data[0][:4].tolist() == losses.tolist()
    assert history.mean(6) == pytest.approx(history.data[0].mean())
    assert second.message_hub.get_info('best_score') == 0.25
    checkpoint = torch.load(tmp_path / 'epoch_2.pth')  # the default: weights only
    sigmas = checkpoint['meta']['dataset_meta']['sigmas']
    assert sigmas.dtype == np.float32 and sigmas.tolist() == [1, 1, 1]
    assert checkpoint['meta']['dataset_meta']['names'].tolist() == ['left', 'right']


@pytest.mark.parametrize('package', ['numpy.core', 'numpy._core'])
def test_checkpoints_of_numpy_1_and_2(tmp_path, package):
    path = tmp_path / 'checkpoint.pth'
    data = {'scalar': np.float64(0.5), 'array': np.arange(3), 'flag': np.bool_(True)}
    torch.save(data, path, _use_new_zipfile_serialization=False)
    ours = np.empty(0).__reduce__()[0].__module__.rpartition('.')[0]
    content = path.read_bytes()
    assert f'c{ours}.multiarray\n'.encode() in content
    path.write_bytes(
        content.replace(f'c{ours}.multiarray\n'.encode(), f'c{package}.multiarray\n'.encode())
    )
    loaded = torch.load(path, weights_only=True)
    assert loaded['scalar'] == 0.5 and loaded['array'].tolist() == [0, 1, 2]
    assert bool(loaded['flag']) is True


class Calling:
    """Unpickles into a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    'function,args',
    [
        (os.system, ('touch {file}',)),
        (eval, ("open('{file}', 'w')",)),
        (getattr, (os, 'system')),
        (getattr, (HistoryBuffer, '__init__')),
        (getattr, (HistoryBuffer, '_statistics_methods')),
        (getattr, (OneCycleLR, '__init__')),
    ],
)
def test_a_checkpoint_with_code_is_refused(tmp_path, function, args):
    file, path = tmp_path / 'ran', tmp_path / 'checkpoint.pth'
    if args[0] is os:
        # a module cannot be pickled; name one the way an attacker would
        args = (Calling(__import__, 'os'), args[1])
    args = tuple(arg.format(file=file) if isinstance(arg, str) else arg for arg in args)
    for content in ({'meta': Calling(function, *args)}, np.array([Calling(function, *args)])):
        torch.save({'state_dict': {}, 'content': content}, path)
        with pytest.raises(pickle.UnpicklingError):
            torch.load(path)
    assert not file.exists()


def test_the_methods_of_a_history_are_read(tmp_path):
    torch.save(HistoryBuffer([1.0, 3.0], [1, 1]), tmp_path / 'history.pth')
    history = torch.load(tmp_path / 'history.pth')
    assert history.statistics('mean') == 2 and history.statistics('max') == 3

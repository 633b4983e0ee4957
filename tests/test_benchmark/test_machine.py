"""What is told of a GPU, on one that is made up."""

import subprocess
from types import SimpleNamespace

import pytest
import torch

from scopevit.benchmark import machine
from scopevit.benchmark.machine import describe_gpu, describe_machine, driver_version

GPU = SimpleNamespace(name='NVIDIA Made Up', total_memory=80 * 2**30, major=9, minor=0)


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda: GPU)
    monkeypatch.setattr(torch.version, 'cuda', '13.0')
    monkeypatch.setattr(torch.backends.cudnn, 'version', lambda: 92400)
    monkeypatch.setattr(machine, 'driver_version', lambda: '580.1')


def test_a_gpu_and_its_switches(gpu):
    found = describe_gpu()
    assert list(found.items())[:7] == [
        ('GPU', 'NVIDIA Made Up'),
        ('GPU memory (GiB)', '80.0'),
        ('compute capability', '9.0'),
        ('driver', '580.1'),
        ('CUDA', '13.0'),
        ('cuDNN', '92400'),
        ('torch.backends.cuda.matmul.allow_tf32', 'False'),
    ]
    assert found['torch.backends.cudnn.allow_tf32'] == 'True'
    assert found['torch.backends.cudnn.benchmark'] == 'False'


def test_what_cannot_be_told_is_left_out(gpu, monkeypatch):
    monkeypatch.setattr(machine, 'driver_version', lambda: '')
    monkeypatch.setattr(torch.backends.cudnn, 'version', lambda: None)
    found = describe_gpu()
    assert 'driver' not in found and 'cuDNN' not in found and found['CUDA'] == '13.0'


SETS_NEW = """
import torch
from types import SimpleNamespace
from scopevit.benchmark import machine

torch.cuda.get_device_properties = lambda: SimpleNamespace(
    name='Made Up', total_memory=2**30, major=9, minor=0
)
torch.backends.cuda.matmul.fp32_precision = 'tf32'
torch.backends.cudnn.conv.fp32_precision = 'ieee'
for name, value in machine.describe_gpu().items():
    print(name, value)
"""


@pytest.mark.skipif(
    not hasattr(torch.backends.cudnn, 'conv'), reason='torch before 2.9 has one kind of switches'
)
def test_new_switches_are_told_where_torch_refuses_to_read_the_old_ones(process, tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(SETS_NEW)
    done = process(script)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert 'torch.backends.cuda.matmul.fp32_precision tf32' in lines
    assert 'torch.backends.cudnn.conv.fp32_precision ieee' in lines
    assert 'torch.backends.cuda.matmul.allow_tf32' not in done.stdout


def test_the_machine_of_a_cpu_has_no_gpu(monkeypatch):
    monkeypatch.setattr(machine, 'describe_gpu', lambda: {'GPU': 'here'})
    assert 'GPU' not in describe_machine('cpu') and describe_machine('cuda')['GPU'] == 'here'


def test_version_of_the_driver(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    assert driver_version() == ''
    tool = tmp_path / 'nvidia-smi'
    tool.write_text('#!/bin/sh\necho 580.95.05\necho 580.95.05\n')  # of two GPUs
    tool.chmod(0o755)
    assert driver_version() == '580.95.05'
    tool.write_text('#!/bin/sh\necho broken\nexit 9\n')
    assert driver_version() == ''
    error = subprocess.TimeoutExpired('nvidia-smi', 30)

    def hang(*args, **kwargs):
        raise error

    monkeypatch.setattr(subprocess, 'run', hang)
    assert driver_version() == ''

"""The runtimes that exported files are opened in."""

import subprocess
import sys

import pytest

# Two networks, of which the older goes first, then a signal.
OPENED_AND_CLOSED = """
import os, pathlib, signal, sys
import onnx
from scopevit.export import runtimes

path = pathlib.Path(sys.argv[1])
onnx.save(onnx.parser.parse_model('''
    <ir_version: 8, opset_import: ["" : 17]>
    one (uint8[1] images) => (uint8[1] answers) {answers = Identity(images)}
'''), path)
sessions = [runtimes.open_openvino(path, ['answers']) for _ in range(2)]
while sessions:
    sessions.pop(0)
signal.signal(signal.SIGUSR1, lambda *_: print('heard'))
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_signals_after_networks_of_openvino(tmp_path):
    pytest.importorskip('onnx')
    pytest.importorskip('openvino')
    command = [sys.executable, '-c', OPENED_AND_CLOSED, tmp_path / 'a.onnx']
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, 'heard\n'), ended.stderr

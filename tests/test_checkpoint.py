"""Checkpoints from anywhere: read as data, and downloaded once, whole or not at all."""

import errno
import hashlib
import os
import re
from pathlib import Path

import pytest
import torch
from strangers import serving

from scopevit.checkpoint import read_checkpoint
from scopevit.errors import InputError


def write(folder: Path, name: str, **weights: torch.Tensor) -> bytes:
    """Writes a checkpoint, with its hash in the name for `{}`, and returns it."""
    path = folder / 'new'
    torch.save(weights, path)
    content = path.read_bytes()
    path.rename(folder / name.format(hashlib.sha256(content).hexdigest()[:8]))
    return content


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob('*') if path.is_file())


def test_where_downloads_go(tmp_path, capsys):
    with serving(tmp_path) as server:
        content = write(server.files, 'tiny_in1k-{}.pth', a=torch.ones(2))
        (name,) = files(server.files)
        for _ in range(2):
            assert read_checkpoint(f'{server.url}{name}?download=true')['a'].tolist() == [1, 1]
        assert server.asked == [f'/{name}?download=true']
        assert (server.cache / name).read_bytes() == content  # where torch looks for it, too
        assert files(tmp_path / 'torch') == [name]
        said = f'downloading {server.url}{name}?download=true to {server.cache / name}'
        assert said in capsys.readouterr().err


def test_one_name_at_two_addresses(tmp_path):
    with serving(tmp_path) as server:
        for i, folder in enumerate(('run1', 'run2')):
            (server.files / folder).mkdir()
            write(server.files / folder, 'last.pth', a=torch.tensor(i))
        for i in (0, 1, 0):
            assert read_checkpoint(f'{server.url}run{i + 1}/last.pth')['a'] == i
        assert files(tmp_path / 'torch') == ['last.pth', 'last.pth']


def test_a_local_file_as_an_address(tmp_path):
    write(tmp_path, 'a.pth', a=torch.tensor(3))
    assert read_checkpoint(f'file://{tmp_path}/a.pth')['a'] == 3


def test_a_file_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    write(tmp_path, 'a.pth', a=torch.tensor(3))
    assert read_checkpoint('~/a.pth')['a'] == 3


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('nope.pth', '^cannot download {url}: HTTP Error 404: File not found$'),
        ('cut.pth', r'^cannot download {url}: \d+ bytes are missing at its end$'),
        ('a-01234567.pth', '^the sha256 of what came from {url} does not begin with 01234567;'),
        ('', '^no name of a file at the end of {url}$'),
        ('..', '^no name of a file at the end of {url}$'),
    ],
)
def test_downloads_that_fail(name, message, tmp_path):
    with serving(tmp_path) as server:
        for written in ('cut.pth', 'a-01234567.pth'):
            write(server.files, written, a=torch.ones(2))
        url = f'{server.url}{name}'
        with pytest.raises(InputError, match=message.format(url=url)):
            read_checkpoint(url)
        assert files(tmp_path / 'torch') == []
    with pytest.raises(InputError, match='^cannot download .*Connection refused'):
        read_checkpoint(f'{server.url}a.pth')


@pytest.mark.parametrize('name', ['torchvision://nope', 'open-mmlab://nope', 'mmcls://nope'])
def test_names_that_mmengine_does_not_know(name):
    with pytest.raises(InputError, match=f'^mmengine knows no checkpoint of this name: {name}$'):
        read_checkpoint(name)


@pytest.mark.parametrize('scheme', ['s3', 'petrel', 'cluster:s3', 'pavi', 'ftp', 'data'])
def test_other_schemes_are_refused(scheme):
    with pytest.raises(InputError, match=f'^cannot read {scheme}://a/b.pth: give a file or an '):
        read_checkpoint(f'{scheme}://a/b.pth')


def test_checkpoint_that_cannot_be_opened(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=f'^cannot read {tmp_path}: Is a directory$'):
        read_checkpoint(tmp_path)
    path = tmp_path / 'a.pth'
    torch.save({}, path)

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(type(path), 'open', refuse)
    with pytest.raises(InputError, match=f'^cannot read {path}: Permission denied$'):
        read_checkpoint(path)


@pytest.mark.parametrize('content', [b'', b'junk', b'\x80\x02', b'PK\x03\x04', b'(t.', b'}}s.'])
def test_bytes_that_are_no_checkpoint(content, tmp_path):
    (tmp_path / 'a.pth').write_bytes(content)
    with pytest.raises(InputError, match='not a checkpoint of torch.save, or a damaged one'):
        read_checkpoint(tmp_path / 'a.pth')


def test_a_checkpoint_beyond_the_memory(tmp_path, monkeypatch):
    path = tmp_path / 'a.pth'
    torch.save({}, path)

    def load(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(torch, 'load', load)
    with pytest.raises(InputError, match=f'^more memory than there is for {path}, or a damaged'):
        read_checkpoint(path)


def test_an_old_checkpoint_that_lacks_a_storage(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save({'a': torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    key = re.search(rb'\d{8,}', content)[0]  # in the pickle, and then in the list of storages
    assert content.count(key) == 2
    head, _, tail = content.rpartition(key)
    path.write_bytes(head + key[:-1] + bytes([key[-1] ^ 1]) + tail)
    with pytest.raises(InputError, match='not a checkpoint of torch.save, or a damaged one'):
        read_checkpoint(path)


@pytest.mark.parametrize('how', ['a bit', 'a block'])
def test_weights_that_changed_on_the_disk(how, tmp_path):
    path = tmp_path / 'a.pth'
    weights = torch.arange(1000, dtype=torch.float64)
    torch.save({'state_dict': {'a': weights}}, path)
    content = bytearray(path.read_bytes())
    start = content.index(weights.numpy().tobytes())
    if how == 'a bit':
        content[start + 4001] ^= 1
    else:
        content[start : start + 512] = bytes(512)
    path.write_bytes(content)
    torch.load(path)  # torch has nothing against it
    with pytest.raises(InputError, match=r'^damaged, the checksum of .*data/0 in it is another: '):
        read_checkpoint(path)


@pytest.mark.parametrize('new', [True, False])
def test_whole_files_have_their_checksums(new, tmp_path):
    path = tmp_path / 'a.pth'
    content = {'a': torch.randn(3, 5), 'b': [1, 2.5]}
    torch.save(content, path, _use_new_zipfile_serialization=new)
    torch.testing.assert_close(read_checkpoint(path), content, rtol=0, atol=0)

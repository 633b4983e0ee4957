"""Files of own data: which are found, and the bar while they are read."""

import os

import pytest

from scopevit.errors import InputError
from scopevit.own_data import files


def test_a_bar_shows_once_it_takes_long(monkeypatch, capsys):
    monkeypatch.setenv('FORCE_COLOR', '1')  # as on a terminal
    items = list(range(5))
    assert list(files.progress(items, 'images')) == items
    assert list(files.progress([], 'images')) == []
    assert capsys.readouterr().err == ''
    monkeypatch.setattr(files, 'PATIENCE', -1.0)
    assert list(files.progress(items, 'images')) == items
    shown, err = capsys.readouterr()
    assert 'images:' in err and '100%' in err
    assert shown == ''


def test_links_that_lead_back(tmp_path):
    folder = tmp_path / 'data' / 'cat'
    folder.mkdir(parents=True)
    (folder / 'a.png').touch()
    for i in range(3):  # 3**40 paths, up to where the system ends them
        (folder / f'link{i}').symlink_to(tmp_path / 'data', target_is_directory=True)
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    (elsewhere / 'b.png').touch()
    (folder / 'more').symlink_to(elsewhere, target_is_directory=True)
    assert files.find_files(tmp_path / 'data') == ['cat/a.png', 'cat/more/b.png']


def test_a_pipe_is_no_image(tmp_path):
    (tmp_path / 'a.png').touch()
    os.mkfifo(tmp_path / 'b.png')  # reading it would wait for who writes
    (tmp_path / 'c.png').symlink_to(tmp_path / 'b.png')
    assert files.find_files(tmp_path) == ['a.png']


@pytest.mark.parametrize('name', ['a\nb/0.png', 'a/0\r.png'])
def test_line_breaks_in_names(name, tmp_path):
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=r'0(\\r)?\.png.* has a line break in its name') as caught:
        files.find_files(tmp_path)
    assert len(str(caught.value).splitlines()) == 1

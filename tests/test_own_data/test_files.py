"""Files of own data: the bar while they are read."""

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

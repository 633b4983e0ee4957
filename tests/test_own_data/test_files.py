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

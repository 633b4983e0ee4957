"""pkgutil.find_loader, which Python 3.14 removed."""

import pkgutil

from scopevit.compat import find_loader


def test_put_back_where_it_is_missing(monkeypatch, acted):
    monkeypatch.delattr(pkgutil, 'find_loader', raising=False)
    find_loader.apply()
    assert pkgutil.find_loader('json').get_filename('json').endswith('__init__.py')
    assert pkgutil.find_loader('no_such_module') is None
    assert acted == ['find_loader']
    monkeypatch.undo()


def test_left_alone_where_it_is(monkeypatch, acted):
    def own(name):
        return name

    monkeypatch.setattr(pkgutil, 'find_loader', own, raising=False)
    find_loader.apply()
    assert pkgutil.find_loader is own and acted == []

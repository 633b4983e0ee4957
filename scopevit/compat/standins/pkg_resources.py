"""Loaded as `pkg_resources`: what mmengine and pytest use of it, on `importlib.metadata`."""

from importlib import metadata


class DistributionNotFound(Exception):
    """No such distribution is installed."""


class Distribution:
    """An installed distribution, by its name; case, and which of `-_.` it has, do not matter."""

    def __init__(self, name: str) -> None:
        if not name:  # Python 3.10 would return any distribution
            raise DistributionNotFound('a distribution without a name')
        try:
            self._distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError as error:
            raise DistributionNotFound(name) from error
        self.project_name = self._distribution.metadata['Name']
        self.version = self._distribution.version

    @property
    def location(self) -> str:
        """The folder the packages of the distribution lie in."""
        return str(self._distribution.locate_file(''))

    def has_metadata(self, name: str) -> bool:
        """Whether the metadata folder has a file of this name."""
        return self._distribution.read_text(name) is not None

    def get_metadata(self, name: str) -> str:
        """The text of a file of the metadata folder."""
        text = self._distribution.read_text(name)
        if text is None:
            raise FileNotFoundError(f'{self.project_name} has no metadata file {name}')
        return text


get_distribution = Distribution


def fixup_namespace_packages(path_item: str, parent: object = None) -> None:
    """Does nothing; pytest calls it where a test adds to the module search path.

    It concerns namespace packages that were declared through pkg_resources; without it there are
    none.
    """

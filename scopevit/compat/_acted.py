"""Which shims have acted in this process."""

acted: list[str] = []


def record(module: str) -> None:
    """Notes, once, that the shim whose `__name__` is given acts."""
    name = module.rpartition('.')[2]
    if name not in acted:
        acted.append(name)

"""Which shims have acted in this process."""

acted: list[str] = []


def record(module: str) -> None:
    """Notes that a shim acts, once, however often it does.

    Args:
        module: `__name__` of the shim's module.
    """
    name = module.rpartition('.')[2]
    if name not in acted:
        acted.append(name)

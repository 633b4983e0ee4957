"""The sizes of the published networks."""

from collections.abc import Sequence

from scopevit.models.checks import ConfigType, check_number

# One row a size. `kv_strides` are the strides of MSSA's key/value convolutions, `head_splits` how
# many heads of a stage look through the large, the medium and the small kernel, `grid_size` is the
# side of a full GSDA group.
ARCHS: dict[str, ConfigType] = {
    'xtiny': dict(
        embed_dims=(32, 64, 128, 256),
        depths=(1, 2, 4, 1),
        num_heads=(2, 4, 8, 16),
        kv_strides=(4, 2, 1, 1),
        head_splits=((1, 1, 0), (2, 1, 1), (4, 3, 1), (8, 6, 2)),
        grid_size=8,
    ),
}
ARCHS['tiny'] = dict(ARCHS['xtiny'], depths=(2, 2, 5, 2))
ARCHS['small'] = dict(ARCHS['xtiny'], embed_dims=(64, 128, 256, 512), depths=(1, 2, 3, 1))
ARCH_ALIASES = {'xt': 'xtiny', 't': 'tiny', 's': 'small'}

# Blocks of a stage; a config out of a checkpoint may ask for any number, and each takes memory.
DEEPEST = 1000

KERNEL_SIZES = (7, 5, 3)  # of the large, medium and small heads


def resolve_arch(arch: str | ConfigType) -> ConfigType:
    """Returns the row of sizes that `arch` names, or `arch` itself once it is found sound."""
    if isinstance(arch, str):
        name = ARCH_ALIASES.get(arch, arch)
        if name not in ARCHS:
            allowed = ', '.join([*ARCHS, *ARCH_ALIASES])
            raise ValueError(f'arch must be one of {allowed}, or a dict of sizes, not {arch!r}')
        return dict(ARCHS[name])
    if not isinstance(arch, dict):
        raise TypeError(f'arch must be a str or a dict of sizes, not {type(arch).__name__}')
    keys = set(ARCHS['tiny'])
    if set(arch) != keys:
        raise TypeError(
            f'arch as a dict needs exactly the keys {sorted(keys)}; '
            f'missing: {sorted(keys - set(arch))}, unknown: {sorted(set(arch) - keys)}'
        )
    check_number("arch['grid_size']", arch['grid_size'], int, low=1)
    for key in sorted(keys - {'grid_size'}):
        if not isinstance(arch[key], Sequence) or len(arch[key]) != 4:
            raise ValueError(f'arch[{key!r}] must have 4 entries, one a stage, not {arch[key]}')
    for dims, heads, depth, stride, split in zip(
        *(arch[k] for k in ('embed_dims', 'num_heads', 'depths', 'kv_strides', 'head_splits'))
    ):
        check_number("an entry of arch['depths']", depth, int, low=1, below=DEEPEST)
        check_number("an entry of arch['num_heads']", heads, int, low=1)
        check_number("an entry of arch['kv_strides']", stride, int, low=1)
        check_number("an entry of arch['embed_dims']", dims, int, low=2)
        if dims % heads or dims % 2:
            raise ValueError(
                f"arch['embed_dims'] must be even multiples of arch['num_heads'], not {dims} for "
                f'{heads} heads'
            )
        is_split = isinstance(split, Sequence) and len(split) == len(KERNEL_SIZES)
        is_split = is_split and all(isinstance(n, int) and n >= 0 for n in split)
        if not is_split or sum(split) != heads:
            raise ValueError(
                f"an entry of arch['head_splits'] must be (large, medium, small) heads that add up "
                f'to the {heads} heads of its stage, not {split}'
            )
    return dict(arch)

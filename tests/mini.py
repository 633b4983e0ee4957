"""A small architecture with every feature of the real ones, for tests of the backbone."""

MINI = dict(
    embed_dims=(8, 16, 32, 32),
    depths=(1, 1, 2, 1),
    num_heads=(2, 4, 4, 4),
    kv_strides=(4, 2, 1, 1),
    head_splits=((1, 1, 0), (2, 1, 1), (2, 1, 1), (1, 1, 2)),
    grid_size=8,
)

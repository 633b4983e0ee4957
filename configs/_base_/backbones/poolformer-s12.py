# PoolFormer-S12 (CVPR 2022): its maps at strides 4, 8, 16 and 32.
peer_backbone = dict(
    type='mmpretrain.PoolFormer',
    arch='s12',
    out_indices=(0, 2, 4, 6),
    frozen_stages=-1,  # its default freezes the patch embedding
    drop_path_rate=0.1,
)
peer_channels = [64, 128, 320, 512]

# Swin (ICCV 2021) at 2 GFLOPs, as the ScopeViT paper has it: its maps at strides 4, 8, 16 and 32.
peer_backbone = dict(
    type='mmpretrain.SwinTransformer',
    arch=dict(embed_dims=64, depths=[2, 2, 6, 2], num_heads=[2, 4, 8, 16]),
    out_indices=(0, 1, 2, 3),
    pad_small_map=True,  # the last map may be smaller than a window
    drop_path_rate=0.1,
)
peer_channels = [64, 128, 256, 512]

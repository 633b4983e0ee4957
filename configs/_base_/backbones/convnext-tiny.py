# ConvNeXt-T (CVPR 2022): its maps at strides 4, 8, 16 and 32.
peer_backbone = dict(
    type='mmpretrain.ConvNeXt',
    arch='tiny',
    out_indices=(0, 1, 2, 3),
    gap_before_final_norm=False,
    drop_path_rate=0.1,
)
peer_channels = [96, 192, 384, 768]

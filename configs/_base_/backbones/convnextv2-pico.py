# ConvNeXt V2-P (arXiv 2023): its maps at strides 4, 8, 16 and 32.
peer_backbone = dict(
    type='mmpretrain.ConvNeXt',
    arch='pico',
    use_grn=True,
    layer_scale_init_value=0.0,  # GRN takes its place
    out_indices=(0, 1, 2, 3),
    gap_before_final_norm=False,
    drop_path_rate=0.1,
)
peer_channels = [64, 128, 256, 512]

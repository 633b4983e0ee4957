# MobileViTv2-1.5 (arXiv 2022): its maps at strides 4, 8, 16 and 32.
peer_backbone = dict(
    type='mmpretrain.TIMMBackbone',
    model_name='mobilevitv2_150',
    features_only=True,
    out_indices=(1, 2, 3, 4),  # strides 4 to 32; the first of five is 2
    drop_path_rate=0.1,
)
peer_channels = [192, 384, 576, 768]

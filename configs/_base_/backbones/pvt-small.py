# PVT-Small (ICCV 2021): its maps at strides 4, 8, 16 and 32.
peer_backbone = dict(
    type='mmdet.PyramidVisionTransformer', num_layers=[3, 4, 6, 3], drop_path_rate=0.1
)
peer_channels = [64, 128, 320, 512]

# ResNet-50 (CVPR 2016): its maps at strides 4, 8, 16 and 32.
peer_backbone = dict(
    type='mmpretrain.ResNet', depth=50, out_indices=(0, 1, 2, 3), drop_path_rate=0.1
)
peer_channels = [256, 512, 1024, 2048]

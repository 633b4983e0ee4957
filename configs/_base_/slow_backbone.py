# ScopeViT at a tenth of the learning rate, its norms and layer scale without weight decay. mmengine
# applies the longest key that fits a name and then no other rule, `norm_decay_mult` neither.
slow_backbone = dict(backbone=dict(lr_mult=0.1, decay_mult=1.0))
slow_backbone.update(
    {
        key: dict(lr_mult=0.1, decay_mult=0.0)
        for key in (
            *('mssa.gamma', 'gsda.gamma', 'mssa.norm', 'gsda.norm', 'position_encoding.norm'),
            *('stages.0.norm', 'stages.1.norm', 'stages.2.norm', 'stages.3.norm'),
            # The norms between the convolutions, which are numbered.
            *('patch_embed.1.', 'patch_embed.4.'),
        )
    }
)

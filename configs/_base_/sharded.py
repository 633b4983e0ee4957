# A model whose weights, gradients and optimizer state the processes share, see docs/distributed.md.
# For ScopeViT; of other networks, name the classes or modules that they repeat, and large heads.
model_wrapper_cfg = dict(type='ShardedModel', units=['ScopeViTBlock'])

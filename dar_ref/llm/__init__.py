"""Full-size training: TRL carries generation, sharding and checkpoints, this package carries DAR.

Read `options` (what a run is), `config` and `trainer` (the method), `train` (the script). Nothing here is imported by
another layer, and the loss is `dar_ref.losses.dar_loss`.
"""

"""What transformers.Trainer needs to train CLIPPO: arguments, metrics, a few hooks. The loop itself is Trainer's."""

"""Pretraining and fine-tuning on transformers.Trainer: arguments, optimizer, meters, hooks. Trainer has the loop."""

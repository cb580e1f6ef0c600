"""Downstream tasks, one folder each: data, metrics, baselines and fine-tuning side by side."""

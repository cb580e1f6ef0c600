"""GLUE: the task table, metrics, baselines and fine-tuning."""

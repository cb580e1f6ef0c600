"""Evaluation of embeddings: one embedder, metrics, and a report for each protocol. The folder trains no model."""

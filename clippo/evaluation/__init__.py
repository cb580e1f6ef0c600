"""Measuring embeddings. Nothing here trains, nothing here depends on how the embeddings were made."""

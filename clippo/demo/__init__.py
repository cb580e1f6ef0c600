"""Demos of a checkpoint."""

"""Figures: images and texts as the model reads them, with its scores. Most need Pillow alone."""

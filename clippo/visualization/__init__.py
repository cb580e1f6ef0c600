"""Pictures of what the model reads and how it scores. Drawn with Pillow and with our own renderer; no other library."""

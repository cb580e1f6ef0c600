"""Text generation: captions, answers, continued texts and reading aloud, chosen by a drawn prompt."""

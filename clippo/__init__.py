"""CLIPPO for Hugging Face transformers: one vision transformer reads photographs and rendered text.

`import clippo` registers every Auto class, so that `AutoModel.from_pretrained`, `AutoProcessor.from_pretrained` and
`pipeline("zero-shot-image-classification")` know the model type "clippo".
"""

from pathlib import Path

__version__ = "0.1.0"

# In a bare checkout the model and processing folders stand beside this one, not inside it: make
# `clippo.modeling_clippo` and `clippo.processing` importable there too (setup.py maps them when installed).
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "setup.py").is_file() and (_checkout / "modeling_clippo" / "modeling_clippo.py").is_file():
    __path__.append(str(_checkout))

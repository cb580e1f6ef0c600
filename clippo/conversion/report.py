"""What the converter says about a checkpoint: one line a stage of the model, and what it answers to a fixed input."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StageReport:
    """One part of the model. Norm and checksum are of the official numbers, so they compare across machines and dtypes.

    Args:
        stage: Such as "block 3" or "MAP head".
        tensors: How many parameters.
        numbers: How many numbers in them.
        norm: Euclidean norm of all of them, summed in float64.
        sha256: Of their bytes, little-endian float32, parameters in the order of the data flow.
    """

    stage: str
    tensors: int
    numbers: int
    norm: float
    sha256: str

    @classmethod
    def measure(cls, stage: str, arrays: Sequence[np.ndarray]) -> "StageReport":
        digest, square = hashlib.sha256(), 0.0
        for array in arrays:
            digest.update(array.astype("<f4", order="C").tobytes())
            square += float(np.square(array, dtype=np.float64).sum())
        return cls(stage, len(arrays), sum(array.size for array in arrays), math.sqrt(square), digest.hexdigest())


@dataclass(frozen=True)
class ConversionReport:
    """Every stage was converted, saved, loaded, converted back and found equal bit for bit; `str()` is a table.

    Args:
        stages: In the order of the data flow.
        dtype: What the saved weights were rounded to, such as "bfloat16"; "float32" is no rounding.
        image_norm: Norm of the projected, not normalised embedding of a seeded noise picture.
        text_norm: The same for a fixed text, rendered by the saved processor.
        cosine: Between the two.
        temperature: What cosines are multiplied by.
    """

    stages: tuple[StageReport, ...]
    dtype: str
    image_norm: float
    text_norm: float
    cosine: float
    temperature: float

    @property
    def finite(self) -> bool:
        return all(map(math.isfinite, (self.image_norm, self.text_norm, self.cosine, self.temperature)))

    def __str__(self) -> str:
        verdict = "equal" if self.dtype == "float32" else f"equal after rounding to {self.dtype}"
        lines = [f"{'stage':<16}{'tensors':>8}{'numbers':>13}{'norm':>13}  {'sha256':<14}npz -> folder -> npz"]
        for stage in self.stages:
            size = f"{stage.tensors:>8}{stage.numbers:>13,}"
            lines.append(f"{stage.stage:<16}{size}{stage.norm:>13.5g}  {stage.sha256[:12]:<14}{verdict}")
        tensors, numbers = (sum(getattr(stage, field) for stage in self.stages) for field in ("tensors", "numbers"))
        lines.append(f"{'all':<16}{tensors:>8}{numbers:>13,}")
        lines.append(
            f"forward pass: noise picture, norm {self.image_norm:.5f}; text, norm {self.text_norm:.5f}; "
            f"cosine {self.cosine:.5f}; temperature {self.temperature:.4f}"
        )
        return "\n".join(lines)

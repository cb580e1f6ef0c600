"""Report of a conversion: one line a stage of the model, and the embeddings of a fixed image and text."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StageReport:
    """Size, norm and checksum of one stage of the model.

    Norm and checksum are those of the official numbers, so they are equal across machines and dtypes.

    Args:
        stage: Name of the stage, such as "block 3" or "MAP head".
        tensors: Number of parameters.
        numbers: Number of scalars in them.
        norm: Euclidean norm of all scalars, summed in float64.
        sha256: Hash of the bytes: little-endian float32, parameters in the order of the data flow.
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
    """Result of a conversion whose every stage came back bit for bit; `str()` prints a table.

    Args:
        stages: Stages in the order of the data flow.
        dtype: Precision of the saved weights, such as "bfloat16"; "float32" means no rounding.
        image_norm: Norm of the projected embedding of a seeded noise image, before normalisation.
        text_norm: The same for a fixed text that the saved processor rendered.
        cosine: Cosine similarity of the two embeddings.
        temperature: Factor of the cosines in the logits.
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
            f"forward pass: noise image, norm {self.image_norm:.5f}; text, norm {self.text_norm:.5f}; "
            f"cosine {self.cosine:.5f}; temperature {self.temperature:.4f}"
        )
        return "\n".join(lines)

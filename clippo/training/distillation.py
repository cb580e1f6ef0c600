"""Losses against the vectors of a teacher, beside the contrastive loss.

A teacher's vectors say more than who is whose partner: how similar all texts of the batch are. With teacher vectors v,
texts t, all of unit length, and a temperature T:

    targets = softmax(v @ v.T / T)                                    # (N, N) each text against all vectors
    soft    = mean KL(targets, softmax(t @ v.T / T))                  # 0 where t = v
    cosine  = mean(1 - sum(t * v))
    loss    = contrastive_weight * contrastive + soft_target_weight * soft + cosine_weight * cosine

The softmax runs over the vectors of all processes. They have no gradient, so only they are gathered.

A data set of concepts can have an anchor a concept, see `anchors.py`; `anchor_weight` is the weight of their loss.
"""

from dataclasses import asdict, dataclass, field

import torch
from torch.nn import functional as F

from clippo.modeling_clippo.loss_clippo import gather_rows


@dataclass
class DistillationArguments:
    """Weights of the losses against given vectors. The defaults are the contrastive loss alone.

    Raises:
        ValueError: A weight is negative, all are 0, or the temperature is not positive.

    Example:
        >>> from clippo.training.distillation import DistillationArguments
        >>> DistillationArguments(soft_target_weight=1.0).changes_the_loss
        True
    """

    contrastive_weight: float = field(default=1.0, metadata={"help": "Weight of the contrastive loss."})
    soft_target_weight: float = field(
        default=0.0,
        metadata={"help": "Given vectors: weight of the divergence from the similarities among the vectors."},
    )
    soft_target_temperature: float = field(default=0.05, metadata={"help": "Temperature of these similarities."})
    cosine_weight: float = field(
        default=0.0, metadata={"help": "Given vectors: weight of 1 minus the cosine of a text and its vector."}
    )
    anchor_weight: float = field(
        default=0.0,
        metadata={"help": "Concepts: weight of the cross-entropy of images and texts against an anchor a concept."},
    )

    def __post_init__(self):
        names = ("contrastive_weight", "soft_target_weight", "cosine_weight", "anchor_weight")
        weights = [getattr(self, name) for name in names]
        if min(weights) < 0 or not any(weights):
            values = ", ".join(f"{name}={weight}" for name, weight in zip(names, weights, strict=True))
            raise ValueError(f"{values} leave nothing to learn; none may be negative, and one must be positive.")
        if self.soft_target_temperature <= 0:
            raise ValueError(f"soft_target_temperature={self.soft_target_temperature} must be positive.")

    @property
    def changes_the_loss(self) -> bool:
        """True if the loss is another than the contrastive one."""
        weights = (self.contrastive_weight, self.soft_target_weight, self.cosine_weight, self.anchor_weight)
        return weights != (1.0, 0.0, 0.0, 0.0)

    def settings(self) -> dict[str, float]:
        """The weights; those of later versions only where they are set, so that older runs can be resumed."""
        return {name: value for name, value in asdict(self).items() if name != "anchor_weight" or value}


def soft_target_loss(
    vectors: torch.Tensor, texts: torch.Tensor, temperature: float, gather: bool = False
) -> torch.Tensor:
    """Divergence of the similarities of texts and vectors from those among the vectors.

    Args:
        vectors: float (n, E), unit length, of the teacher.
        texts: float (n, E), unit length.
        temperature: Divisor of the cosines.
        gather: Compare with the vectors of all processes. The average over the processes is the global mean.

    Returns:
        Scalar, 0 where texts and vectors are equal.

    Example:
        >>> import torch
        >>> from clippo.training.distillation import soft_target_loss
        >>> vectors = torch.eye(3)
        >>> round(soft_target_loss(vectors, vectors, 0.05).item(), 6)
        0.0
    """
    vectors, texts = vectors.detach().float(), texts.float()
    everybody, share = gather_rows(vectors) if gather else (vectors, 1.0)  # (N, E)
    targets = F.log_softmax(vectors @ everybody.T / temperature, 1)  # (n, N)
    scores = F.log_softmax(texts @ everybody.T / temperature, 1)
    return F.kl_div(scores, targets, reduction="batchmean", log_target=True) * share


def distillation_loss(
    arguments: DistillationArguments,
    contrastive: torch.Tensor,
    vectors: torch.Tensor,
    texts: torch.Tensor,
    gather: bool = False,
) -> torch.Tensor:
    """Weighted sum of the losses, see the module.

    Args:
        arguments: Weights.
        contrastive: Scalar, the contrastive loss.
        vectors: float (n, E), unit length, of the teacher.
        texts: float (n, E), unit length.
        gather: As in `soft_target_loss`.
    """
    loss = arguments.contrastive_weight * contrastive
    with torch.autocast(texts.device.type, enabled=False):
        if arguments.soft_target_weight:
            soft = soft_target_loss(vectors, texts, arguments.soft_target_temperature, gather)
            loss = loss + arguments.soft_target_weight * soft
        if arguments.cosine_weight:
            share = gather_rows(vectors)[1] if gather else 1.0
            loss = loss + arguments.cosine_weight * share * (1 - (vectors.float() * texts.float()).sum(1)).mean()
    return loss

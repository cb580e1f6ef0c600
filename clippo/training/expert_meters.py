"""Meters of a model with experts: experts in use by modality, idle experts, collapsed routers."""

import logging
from collections.abc import Callable, Sequence

import torch

from clippo.modeling_clippo.packing_clippo import MODALITIES

logger = logging.getLogger(__name__)

COLLAPSED = 0.9  # share of the tokens of one modality that one expert receives


def effective_experts(tokens: torch.Tensor) -> torch.Tensor:
    """exp of the entropy of the shares: (..., E) -> (...), from 1 (one expert has all) to E. 0 without tokens."""
    total = tokens.sum(-1, keepdim=True)
    return torch.special.entr(tokens / total.clamp_min(1)).sum(-1).exp() * (total[..., 0] > 0)


class ExpertMeters:
    """Tokens of each expert over a logging window. Sums stay on the device and are read once a log.

    Args:
        blocks: Numbers of the blocks with experts, for the messages.

    Example:
        >>> import torch
        >>> from clippo.training.expert_meters import ExpertMeters
        >>> meters = ExpertMeters(blocks=[1])
        >>> meters.update(torch.tensor([[[4.0, 4.0], [8.0, 0.0]]]))  # images use both experts, texts the first one
        >>> meters.read(reduce=lambda sums: sums)
        {'image_experts': 2.0, 'text_experts': 1.0, 'idle_experts': 0, 'largest_expert': 0.75}
    """

    def __init__(self, blocks: Sequence[int]):
        self.blocks = blocks
        self.tokens: torch.Tensor | None = None
        self._reported: set[tuple[int, str]] = set()

    def update(self, expert_tokens: torch.Tensor | None) -> None:
        """Adds the tokens of one step, (blocks, 2, E), as `ClippoOutput.expert_tokens` has them; None adds nothing."""
        if expert_tokens is not None:
            tokens = expert_tokens.detach().double()
            self.tokens = tokens if self.tokens is None else self.tokens + tokens

    def read(self, reduce: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
        """Returns the numbers of the window over all processes and starts the next window.

        Args:
            reduce: Function that sums a tensor over the processes; every process calls it.

        Returns:
            `image_experts` and `text_experts`: effective experts, the exp of the entropy of the shares, mean over the
            blocks. `idle_experts`: experts of all blocks without any token. `largest_expert`: largest share of the
            tokens of a block that one expert received. The dict is empty for a model without experts.
        """
        if self.tokens is None:
            return {}
        tokens, self.tokens = reduce(self.tokens).cpu(), None
        self._report_collapse(tokens)
        used = effective_experts(tokens).mean(0).tolist()
        pooled = tokens.sum(1)  # (blocks, E)
        logs = {f"{modality}_experts": round(value, 2) for modality, value in zip(MODALITIES, used, strict=True)}
        logs["idle_experts"] = int((pooled == 0).sum())
        logs["largest_expert"] = round((pooled / pooled.sum(-1, keepdim=True).clamp_min(1)).max().item(), 3)
        return logs

    def _report_collapse(self, tokens: torch.Tensor) -> None:
        """Names each router that gives nearly all tokens of a modality to one expert, once a run."""
        shares = tokens / tokens.sum(-1, keepdim=True).clamp_min(1)
        if shares.shape[-1] < 2:
            return
        for block, i in (shares.amax(-1) > COLLAPSED).nonzero().tolist():
            key = (self.blocks[block], MODALITIES[i])
            if key not in self._reported:
                self._reported.add(key)
                logger.warning(
                    "The router of block %d has collapsed: %.0f %% of the %s tokens go to expert %d. Lower "
                    "learning_rate, or raise router_importance_coef or router_global_entropy_coef.",
                    key[0],
                    100 * shares[block, i].max().item(),
                    key[1],
                    shares[block, i].argmax().item(),
                )

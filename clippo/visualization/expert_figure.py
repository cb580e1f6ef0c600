"""Figure of the experts that read each modality and script."""

from collections.abc import Mapping

import numpy as np

from clippo.evaluation.expert_use import normalized_mutual_information


def draw_expert_use(counts: Mapping[int, Mapping[str, list[int]]], output: str) -> None:
    """Writes one heat map for each block: rows are groups, columns experts, a cell is the share of the group's tokens.

    Columns are sorted by their share of the first group. The title has the normalised mutual information of group and
    expert, and of the groups after the first.

    Args:
        counts: Block -> group -> tokens of each expert, as `expert_use` returns them. The first group is "image".
        output: File name.

    Raises:
        ImportError: Matplotlib is missing.
        ValueError: There is no block.

    Example:
        >>> import tempfile
        >>> from clippo.visualization.expert_figure import draw_expert_use
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     draw_expert_use({1: {"image": [9, 1], "Latin": [1, 3]}}, f"{folder}/experts.png")
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("The figure needs Matplotlib: pip install 'clippo[plot]'.") from error
    if not counts:
        raise ValueError("There is no block with experts to draw.")
    groups = list(next(iter(counts.values())))
    figure = Figure(figsize=(1.5 + 3.2 * len(counts), 1.6 + 0.24 * len(groups)), layout="constrained")
    axes = figure.subplots(1, len(counts), squeeze=False)[0]
    for axis, (block, table) in zip(axes, counts.items(), strict=True):
        rows = np.array([table[group] for group in groups], float)
        shares = rows / rows.sum(1, keepdims=True).clip(1)
        shares = shares[:, np.argsort(-shares[0], kind="stable")]
        image = axis.imshow(shares, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        texts = {group: table[group] for group in groups[1:]}
        axis.set_title(
            f"block {block}: {normalized_mutual_information(table):.2f}, "
            f"texts alone {normalized_mutual_information(texts):.2f}",
            fontsize=8,
        )
        axis.set(xlabel="expert", xticks=[])
        axis.set_yticks(range(len(groups)), groups if axis is axes[0] else [""] * len(groups), fontsize=7)
    figure.colorbar(image, ax=axes, label="share of the tokens", shrink=0.7)
    figure.savefig(output, dpi=110)

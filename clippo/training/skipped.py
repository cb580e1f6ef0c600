"""How many rows of the data could not be used, and when that is too many."""

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState


class SkippedRows(TrainerCallback, ExportableState):
    """Counts the rows that data sets passed over (a broken picture, an empty text) and stops a run that loses too many.

    The count is saved with every checkpoint and goes on from there.

    Args:
        max_skipped: Largest share of the rows read that may be skipped, 0..1.
        grace: Skipped rows that are always accepted, so that one bad row among the first ten does not end a run.
    """

    def __init__(self, max_skipped: float = 0.05, grace: int = 20):
        if not 0 <= max_skipped <= 1:
            raise ValueError(f"max_skipped={max_skipped} is no share of the rows; give a number from 0 to 1.")
        self.max_skipped, self.grace = max_skipped, grace
        self.used = self.skipped = 0

    def add(self, used: int, skipped: int) -> None:
        """Counts rows of all processes.

        Raises:
            RuntimeError: Too many were skipped.
        """
        self.used += used
        self.skipped += skipped
        seen = self.used + self.skipped
        if self.skipped > self.grace and self.skipped > self.max_skipped * seen:
            raise RuntimeError(
                f"{self.skipped} of {seen} rows could not be used, more than max_skipped={self.max_skipped}; the "
                "warnings above give an example of each kind. Mend the data, or raise max_skipped."
            )

    @property
    def attributes(self) -> dict[str, int]:
        """What is saved: rows used and rows skipped so far."""
        return {"used": self.used, "skipped": self.skipped}

    def state(self) -> dict:
        return {"args": {"max_skipped": self.max_skipped, "grace": self.grace}, "attributes": self.attributes}

    def on_train_begin(self, args, state, control, **kwargs):
        # Trainer restores callbacks only on demand, and then all of them; this count always goes on.
        saved = state.stateful_callbacks.get(type(self).__name__)
        if saved:
            self.used, self.skipped = saved["attributes"]["used"], saved["attributes"]["skipped"]

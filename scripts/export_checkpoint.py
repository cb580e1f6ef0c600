#!/usr/bin/env python
"""Prepare a trained folder for publication: `clippo export`.

python scripts/export_checkpoint.py --model runs/emoji --output_dir checkpoints/clippo-emoji --card model_card.md
"""

from clippo.conversion.command import main_export

if __name__ == "__main__":
    main_export()

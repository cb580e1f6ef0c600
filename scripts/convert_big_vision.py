#!/usr/bin/env python
"""Convert an official checkpoint to a Hugging Face folder, or such a folder back to an `.npz`: `clippo convert`.

python scripts/convert_big_vision.py --checkpoint clippo_b16_yfcc100m_i21k_init_75c4 --output_dir clippo-b16
python scripts/convert_big_vision.py --model clippo-b16 --to_npz clippo_b16.npz
"""

from clippo.conversion.command import main_convert

if __name__ == "__main__":
    main_convert()

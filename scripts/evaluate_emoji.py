#!/usr/bin/env python
"""Measure the recall of an emoji search, by script and by split.

python scripts/evaluate_emoji.py --model runs/emoji --data_dir data/emoji --output runs/emoji/recall
"""

from clippo.emoji.evaluation import main

if __name__ == "__main__":
    main()

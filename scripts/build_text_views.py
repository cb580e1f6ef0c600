#!/usr/bin/env python
"""Cut documents into phrases in several views, a source for recipes/text_pairs.yaml: `clippo build phrases`.

python scripts/build_text_views.py --files data/books/train.parquet data/speeches/train.parquet
"""

import sys

from clippo.emoji.command import main

if __name__ == "__main__":
    main(["phrases", *sys.argv[1:]])

#!/usr/bin/env python
"""Write docs/pictures, the part of the emoji data set that the demo shows: `clippo build gallery`.

python scripts/build_emoji_dataset.py && python scripts/build_demo_pictures.py
"""

import sys

from clippo.emoji.command import main

if __name__ == "__main__":
    main(["gallery", *sys.argv[1:]])

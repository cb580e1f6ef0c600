#!/usr/bin/env python
"""Build the emoji data set from Noto Color Emoji and Unicode CLDR: `clippo build emoji`.

apt-get install fonts-noto-color-emoji unicode-cldr-core
npm install noto-color-emoji cldr-annotations-full cldr-annotations-derived-full    # the same without Debian
python scripts/build_emoji_dataset.py
"""

import sys

from clippo.emoji.command import main

if __name__ == "__main__":
    main(["emoji", *sys.argv[1:]])

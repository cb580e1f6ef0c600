#!/usr/bin/env python
"""Draw heat maps, cosine matrices, nearest neighbours, question layouts and answers: `clippo visualize`.

python scripts/visualize.py heatmap --image docs/pictures/cat.webp --texts cat
"""

from clippo.visualization.command import main

if __name__ == "__main__":
    main()

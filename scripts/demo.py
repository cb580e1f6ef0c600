#!/usr/bin/env python
"""Show zero-shot classification and retrieval in many languages, and draw both: `clippo demo`.

python scripts/demo.py
python scripts/demo.py --image_dir FOLDER --labels cat собака 鳥
"""

from clippo.demo.terminal import main

if __name__ == "__main__":
    main()

#!/usr/bin/env python
"""Write the page that runs a model in the browser, and serve it: `clippo build web`.

python scripts/build_web.py --port 8000
"""

from clippo.web.command import main

if __name__ == "__main__":
    main()

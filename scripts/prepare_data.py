#!/usr/bin/env python
"""Write a data set of the recipes to data/NAME: `clippo prepare`.

python scripts/prepare_data.py flickr8k
python scripts/prepare_data.py books --from classic-books-markdown
"""

from clippo.data.prepare import main

if __name__ == "__main__":
    main()

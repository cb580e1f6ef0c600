#!/usr/bin/env python
"""Write the table of the shipped models into README.md.

python scripts/write_model_table.py
"""

from clippo.release.model_table import main

if __name__ == "__main__":
    main()

"""`python cli.py` is `fusionkit` in a checkout."""

import sys

from fusionkit.cli import main

if __name__ == "__main__":
    sys.exit(main())

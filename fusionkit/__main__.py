"""`python -m fusionkit` is `fusionkit`."""

import sys

from fusionkit.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m dar_ref.cli` is the same as `dar-ref`."""

import sys

from dar_ref.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

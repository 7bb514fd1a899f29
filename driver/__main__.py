"""`python -m planish` is the `planish` command."""

import sys

from planish.cli import main

sys.exit(main())

"""``python -m siamkd_core``: the command ``siamkd``, as ``torchrun -m siamkd_core`` starts it."""

import sys

from siamkd_core.cli import main

sys.exit(main())

"""``python -m models`` in a checkout, ``tinygrad-attn`` once installed."""

import sys

from tinygrad_attn_models.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m contextune.cli``."""

from contextune.cli import main

main()

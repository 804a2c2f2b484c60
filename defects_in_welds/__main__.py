"""``python -m defects_in_welds``."""

from defects_in_welds.cli import main

main()

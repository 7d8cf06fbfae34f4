"""``python -m popdyn`` is the command ``popdyn``."""

from popdyn.cli import main

main()

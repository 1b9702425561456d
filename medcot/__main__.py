"""`python -m medcot` is the `medcot` command."""

from medcot.cli import main

main()

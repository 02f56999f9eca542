"""`python -m jwsgate`."""

from .cli import main

main()

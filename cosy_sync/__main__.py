"""`python -m cosy_sync`: the same as the command `cosy-sync`."""

from cosy_sync.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

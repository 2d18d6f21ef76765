"""The command ``volo``, run as ``python -m volo``."""

from volo.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

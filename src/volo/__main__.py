"""``python -m volo`` is the command ``volo``."""

from volo.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

"""``python -m mrisr``."""

from mrisr.cli import main

if __name__ == "__main__":
    main()

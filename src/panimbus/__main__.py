"""``python -m panimbus``."""

from panimbus.cli import main

if __name__ == "__main__":
    main()

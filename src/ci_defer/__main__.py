"""Run as `python -m ci_defer`, which the action does with an isolated interpreter."""

from ci_defer.cli import main

if __name__ == "__main__":
    main()

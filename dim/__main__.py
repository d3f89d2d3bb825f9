"""`python -m dim` is the `dim` command."""

from dim.cli import main

if __name__ == "__main__":
    main()

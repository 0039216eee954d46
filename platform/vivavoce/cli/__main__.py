"""`python -m vivavoce.cli`."""

from vivavoce.cli.main import main

if __name__ == "__main__":
    main()

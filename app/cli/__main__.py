"""``python -m app.cli``: the classifyd command where it is not installed."""

from app.cli.main import main

# A process that "batch" starts imports this module too.
if __name__ == "__main__":
    main()

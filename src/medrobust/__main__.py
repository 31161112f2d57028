"""The command line as `python -m medrobust`."""

from medrobust.cli import app

if __name__ == "__main__":
    app()

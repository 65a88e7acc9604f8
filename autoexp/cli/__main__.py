"""``python -m autoexp.cli``: the same as ``autoexp``."""

from autoexp.cli import app

if __name__ == "__main__":
    app(prog_name="autoexp")

"""`python -m everything` is `everything`."""

from everything.cli import app

app(prog_name="everything")

"""`python -m everything` is `everything`."""

from everything.cli.main import app

app(prog_name="everything")

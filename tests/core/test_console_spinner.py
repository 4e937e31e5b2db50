import io

from rich.console import Console

from everything.core.console import spinner, stop_spinner


def printed(console: Console, line: str) -> str:
    """What a printed line draws anew, the spinner below it included."""
    console.file.truncate(0)
    console.print(line)
    return console.file.getvalue()


def test_a_bar_takes_the_place_of_the_spinner():
    console = Console(file=io.StringIO(), force_terminal=True, width=60)
    with spinner("loading the model", console):
        assert "loading the model" in printed(console, "a warning")
        stop_spinner()
        assert "loading the model" not in printed(console, "12 of 40 MB")


def test_nothing_where_there_is_no_terminal():
    console = Console(file=io.StringIO())
    with spinner("loading the model", console):
        stop_spinner()
    assert console.file.getvalue() == ""

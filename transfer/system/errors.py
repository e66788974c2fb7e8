"""The one exception for all bad input."""


class DataError(Exception):
    """Bad or missing input. The message is one line: which file (and record), what is wrong, what
    to do."""

    def __init__(self, message: str):
        # names in archives may hold line breaks and other control characters
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(message)))

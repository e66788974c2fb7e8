"""The exceptions that end a training before its last step."""


class TrainingError(Exception):
    """A run that cannot start or continue. The message is one line: which run, what is wrong, what
    to do."""


class Interrupted(Exception):
    """The run was interrupted (Ctrl-C or SIGTERM) and has saved its state."""

"""What goes wrong for a reason a person can mend. The outermost frame turns each into one line and
an exit code.
"""


class DataError(ValueError):
    """Text, tokenizers or corpora that are not as they have to be (exit code 2)."""


class TrainingError(RuntimeError):
    """A failure under way (exit code 1)."""


class Stopped(BaseException):
    """The run was asked to stop, and has saved where it is. Not an Exception: a sweep stops with
    it.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message, exit_code)  # both, as a worker process sends `args` and no more
        self.exit_code = exit_code

    def __str__(self) -> str:
        return str(self.args[0])

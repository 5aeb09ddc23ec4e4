"""Errors that a person can fix. The command turns each into one line and an exit code."""

AGAIN = "copy the run again, or train it again with overwrite=true"
"""What helps where a file of a run is damaged."""


class DataError(ValueError):
    """Text, a tokenizer or a corpus that is not as expected (exit code 2)."""


class NotFiniteError(RuntimeError):
    """A model whose probabilities are not finite, so that a search finds nothing (exit code 1)."""


class TrainingError(RuntimeError):
    """A failure during training (exit code 1)."""


class Diverged(TrainingError):
    """Loss or gradient was not finite too often, or the model translates nothing any more.

    An experiment counts it; any other error is a failure.
    """

    BEGINS = "diverged: "
    """How its message begins, also in a run's failure.txt."""


class Stopped(BaseException):
    """The run was asked to stop and has saved its state.

    Not an Exception, so that a sweep stops too.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message, exit_code)  # both, because pickle restores it from `args` alone
        self.exit_code = exit_code

    def __str__(self) -> str:
        return str(self.args[0])

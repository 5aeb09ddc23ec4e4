"""Other processes: started, perhaps watched, waited for; an error where one fails."""

import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

Watch = Callable[[int, Callable[[], bool]], object]
"""Gets the number of a process, and what tells whether it is over."""
LONGEST = 2000
"""Characters of the end of a process' standard error that an error gives."""


def finish(
    words: Sequence[str],
    code: int = 0,
    given: str = "",
    name: str = "",
    watch: Watch | None = None,
) -> str:
    """Run a process with `given` on its standard input; return its standard output.

    RuntimeError if it ends with another code. `name` is its name there, if not its words.
    """
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process,
        ThreadPoolExecutor(1) as pool,  # which reads, so that the process never waits for a reader
    ):
        done = pool.submit(process.communicate, given)
        try:
            if watch is not None:
                watch(process.pid, done.done)
            output, error = done.result()
        finally:
            process.kill()
    if process.returncode != code:
        raise failure(name or " ".join(words), process.returncode, error)
    return output


def failure(name: str, code: int, error: str) -> RuntimeError:
    """Return the error of a process that ended with a code, with the end of its standard error."""
    return RuntimeError(f"{name}: exit code {code}: {error.strip()[-LONGEST:]}")

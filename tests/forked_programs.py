"""Programs that start in a tenth of a second: copies of a process that has imported torch.

A new Python imports for 3 to 5 seconds of a core until train.py trains, which is most of the time
of a small training. Here one process, the server, imports once, and each program is a fork of it.

    python tests/forked_programs.py serve ADDRESS
    python tests/forked_programs.py run ADDRESS train.py norm=layer

The second command stands for `python train.py norm=layer`. The program gets its words, folder,
environment, standard streams and signals; it ends as the program does, and the program ends where
it is killed. This is not for tests of what happens before a program's first line (imports, locales,
variables of Python and OpenMP), of terminals, and of the numbers of processes.
"""

import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence

PRELOADED = [
    "pytest",
    "seq2seq.app.evaluate",
    "seq2seq.app.train",
    "seq2seq.app.translate",
    "seq2seq.runs.events",
    "seq2seq.training.loop",
    "sacrebleu",
    "tensorboard.backend.event_processing.event_accumulator",
    "torch.distributed",
    "torch.utils.tensorboard",
    "matplotlib.pyplot",
    "matplotlib.backends.backend_agg",
]
"""What the server imports, and that of multiprocessing, from which other tests fork functions.

It computes nothing: OpenMP's threads do not live on in a fork.
"""
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STREAMS = (0, 1, 2)


def run(address: str, words: Sequence[str]) -> int:
    """Let the server run a program for this process; return its exit code, or die as it did."""
    from threading import Thread

    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [b"."], STREAMS)
        with connection.makefile("rw", encoding="ascii") as lines:
            asked = {"words": words, "folder": os.getcwd(), "environment": dict(os.environ)}
            print(json.dumps(asked), file=lines, flush=True)
            Thread(target=_pass_on, args=(int(lines.readline()),), daemon=True).start()
            code = int(lines.readline())
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        os.kill(os.getpid(), -code)
    return code


def _pass_on(program: int) -> None:
    """Send each signal that comes to this process to its program.

    They stay blocked: a handler in Python would not run while the main thread reads.
    """
    while True:
        number = signal.sigwait(PASSED_ON)
        try:
            os.kill(program, number)
        except ProcessLookupError:
            return


def serve(address: str) -> None:
    """Fork a program for each process that asks, until standard input ends."""
    import select
    from importlib import import_module

    for name in PRELOADED:
        import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # at a terminal, Ctrl-C is also for this process
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while sys.stdin not in (ready := select.select([listener, sys.stdin], [], [])[0]):
            while _reaped():
                pass
            if listener in ready:
                connection, _ = listener.accept()
                if os.fork() == 0:
                    listener.close()
                    _attend(connection)
                    return
                connection.close()
    while _reaped(0):
        pass


def _reaped(options: int = os.WNOHANG) -> bool:
    """Wait for a process that has ended, so that its times are counted; False: there is none."""
    try:
        return os.waitpid(-1, options)[0] != 0
    except ChildProcessError:
        return False


def _attend(connection: socket.socket) -> None:
    """Start the program that is asked for, and tell how it ends; return in the program alone."""
    _, streams, _, _ = socket.recv_fds(connection, 1, len(STREAMS))
    with connection, connection.makefile("rw", encoding="ascii") as lines:
        asked = json.loads(lines.readline())
        program = os.fork()
        if program:
            for stream in streams:
                os.close(stream)
            _watch(connection, program, lambda word: print(word, file=lines, flush=True))
    _become(streams, **asked)


def _watch(connection: socket.socket, program: int, tell: Callable[[int], None]) -> None:
    """Tell the number of a program and its exit code; kill it if nobody listens any more."""
    from threading import Thread

    def kill_without_listener() -> None:
        if not connection.recv(1):
            os.kill(program, signal.SIGKILL)

    for stream in STREAMS:
        os.close(stream)
    tell(program)
    Thread(target=kill_without_listener, daemon=True).start()
    _, status = os.waitpid(program, 0)
    try:
        tell(os.waitstatus_to_exitcode(status))
    finally:
        os._exit(0)


def _become(
    streams: Sequence[int], words: list[str], folder: str, environment: dict[str, str]
) -> None:
    """Run a program as if this process had been started for it."""
    import runpy

    for stream, theirs in zip(STREAMS, streams, strict=True):
        os.dup2(theirs, stream)
        os.close(theirs)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    sys.argv, sys.orig_argv = words, [sys.executable, *words]
    sys.path[0] = os.path.dirname(os.path.abspath(words[0]))
    runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    task, place, *given = sys.argv[1:]
    if task == "run":
        sys.exit(run(place, given))
    serve(place)

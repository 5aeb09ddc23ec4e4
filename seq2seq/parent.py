"""Processes that another one has started: they end with it."""

import os
from multiprocessing import parent_process
from threading import Thread


def end_with_parent() -> None:
    """End this process as soon as the one that started it has ended, also by a kill.

    A worker of a pool would wait for work for ever: the other workers keep its pipe open.
    """
    parent = parent_process()
    if parent is None:
        return

    def end() -> None:
        parent.join()
        os._exit(1)

    Thread(target=end, daemon=True).start()

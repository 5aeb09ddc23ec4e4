"""The commit of the code that trains, where the code is in its own git repository."""

import subprocess
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


@cache
def code_commit(package: Path = PACKAGE) -> str | None:
    """Return the package's commit, with "-dirty" after it where tracked files were changed.

    None without git, and where the package is no tracked part of the repository around it: an
    installed package may be inside somebody else's.
    """
    git = ["git", "--no-optional-locks", "-C", str(package)]
    try:
        for arguments in (
            ["ls-files", "--error-unmatch", "__init__.py"],
            ["describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"],
        ):
            done = subprocess.run([*git, *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() or None

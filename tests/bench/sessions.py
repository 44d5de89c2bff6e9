"""Sessions for real child processes: one that hums, one that aborts, one that cannot start."""

import os
import sys

from kokoro_coreml.bench.sessions import Session


def open_humming(samples=2400):
    return Session(lambda: lambda line: samples)


def open_aborting(after=1):
    said = []

    def say(line):
        said.append(line)
        if len(said) > after:
            print("terminating due to uncaught exception", file=sys.stderr, flush=True)
            os.abort()
        return 2400

    return Session(lambda: say)


def open_crashing(**_):
    """Aborts while it loads."""
    return Session(os.abort)


def open_refusing():
    raise RuntimeError("no such thing")

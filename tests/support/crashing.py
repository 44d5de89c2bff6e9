"""Objects for child processes that do what Core ML has done to others: abort, hang, raise."""

import os
import signal
import sys
import time

from kokoro_coreml.coreml.errors import CoreMLUnavailableError
from kokoro_coreml.errors import PackageError, PhonemeError


class Patient:
    def __init__(self, name="patient"):
        self.name, self.calls = name, 0

    def echo(self, value):
        self.calls += 1
        return self.name, self.calls, value

    def abort(self):
        print("libc++abi: terminating due to uncaught exception", file=sys.stderr, flush=True)
        os.abort()

    def kill(self, number):
        os.kill(os.getpid(), number)
        time.sleep(60)

    def leave(self, code):
        os._exit(code)

    def hang(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)

    def refuse(self, kind):
        known = {"package": PackageError, "unavailable": CoreMLUnavailableError}
        raise known.get(kind, PhonemeError)(f"refused: {kind}")

    def fail(self):
        raise RuntimeError("{ NSLocalizedDescription = 'no'; }")

    def unpicklable(self):
        return lambda: None

    def shout(self, lines):
        for number in range(lines):
            print(f"line {number} of noise on standard output")
        sys.stdout.flush()
        return lines

    def where(self):
        return os.getpid(), os.getsid(0)


def patient(**arguments):
    return Patient(**arguments)


def stillborn():
    os.abort()


def missing_package():
    raise PackageError("there is no such package")

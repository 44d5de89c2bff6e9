"""What runs in the child process: make one object, then call its methods until the pipe closes.

Started by `process.ChildProcess` as `python -m kokoro_coreml.coreml.child FD`; FD is one end of a
socket, because Core ML and coremltools print to standard output as they like.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from multiprocessing.connection import Connection
from typing import Any

from kokoro_coreml.errors import KokoroError

Answer = tuple[str, Any]
"""`("value", result)`, or `("error", (class name, message, whether it is a KokoroError))`."""


def serve(connection: Connection) -> None:
    """Answer requests until the other end closes.

    The first request is (factory "module:function", keyword arguments), each further one is
    (method name, positional arguments).
    """
    target: Any = None
    while True:
        try:
            name, arguments = connection.recv()
        except (EOFError, OSError):
            return
        try:
            if target is None:
                target = _function(name)(**arguments)
                answer: Answer = ("value", None)
            else:
                answer = ("value", getattr(target, name)(*arguments))
        # Every failure is the parent's to judge; only what ends the process may end the process.
        except Exception as error:
            answer = _failure(error)
        try:
            connection.send(answer)
        except OSError:
            return
        except Exception as error:
            connection.send(_failure(error))


def main() -> None:
    """Serve the file descriptor given as the only argument."""
    # coremltools warns about versions at import; what Core ML prints last must stay visible.
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)
    serve(Connection(descriptor))


def _function(factory: str) -> Any:
    module, _, function = factory.partition(":")
    return getattr(importlib.import_module(module), function)


def _failure(error: Exception) -> Answer:
    return "error", (type(error).__name__, str(error), isinstance(error, KokoroError))


if __name__ == "__main__":
    main()

"""`sayso`: run the server, and talk to one from the command line."""

import os
import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # `python -m` looks for modules in the working directory first: a redis.py there would be run.
    sys.path.append(sys.path.pop(0))

import signal
from types import FrameType


def app() -> None:
    """Run the command that the arguments name; `health` without what only others need, as
    containers run it every few seconds."""
    if sys.argv[1:2] == ["health"]:
        from service.commands import health  # noqa: PLC0415

        sys.exit(health.main(sys.argv[2:]))
    from service.commands import application  # noqa: PLC0415

    application.app()


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if os.getpid() == 1:
    # The kernel drops signals that process 1 of a container has no handler for; the server sets its
    # own only once it is imported, which takes seconds.
    signal.signal(signal.SIGTERM, _end)

if __name__ == "__main__":
    app()

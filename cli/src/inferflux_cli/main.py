"""Entry point of `inferctl`: whatever happens ends in an exit code, never in a traceback."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process and exit.

    Exit codes: 0 done, 1 the server or the request failed, 2 wrong usage, 3 no connection,
    4 authentication or scope, 130 interrupted, 141 the reader of our output went away.
    """
    try:
        # Imported here so that Ctrl-C during the first third of a second is quiet, too.
        from inferflux_cli.app import run

        code = run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit; give it somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    sys.exit(code)

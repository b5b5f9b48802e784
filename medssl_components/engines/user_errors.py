# SPDX-License-Identifier: Apache-2.0
"""One line instead of a traceback where the user's data or options are at fault."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from monai.utils.misc import MONAIEnvVars

PACKAGE = Path(__file__).resolve().parent.parent
USER_ERRORS = (ValueError, ArithmeticError, FileNotFoundError, FileExistsError)
FROM_WORKER = re.compile(rf"^{PACKAGE.name}\.[\w.]+: (.+)$", re.MULTILINE)


def user_error_line(error: BaseException) -> str | None:
    """Return the line that a user should read, or None if the error is not one that this package raised on purpose.

    MONAI wraps whatever a config raises, so the chain of causes is searched for an error of this package. Of an error
    in a worker process of a loader only the text of its traceback arrives, which is searched for one as well.
    """
    for link in _chain(error):
        worker = FROM_WORKER.findall(str(link))
        if worker:
            return worker[0]
        frames = traceback.extract_tb(link.__traceback__)
        ours = frames and PACKAGE in Path(frames[-1].filename).resolve().parents
        if isinstance(link, USER_ERRORS) and (ours or type(link).__module__.startswith(__package__.split(".")[0])):
            return (str(link).strip() or type(link).__name__).splitlines()[-1]
    return None


def one_line_errors() -> None:
    """Make an uncaught error that `user_error_line` knows end the process with that line and exit code 1.

    Called from `initialize` of every config. An exception stays an exception for whoever runs the bundle from Python or
    from a server: only what nobody caught is shown in this form. MONAI_DEBUG=1 brings the traceback back.
    """
    previous = sys.excepthook
    if getattr(previous, "shows_one_line", False):
        return

    def show(kind, error, trace) -> None:  # noqa: ANN001
        line = None if MONAIEnvVars.debug() else user_error_line(error)
        if line is None:
            previous(kind, error, trace)
        else:
            sys.stderr.write(f"error: {line}\n")

    show.shows_one_line = True
    sys.excepthook = show


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)

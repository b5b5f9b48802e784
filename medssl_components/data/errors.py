# SPDX-License-Identifier: Apache-2.0
"""The error that a user's own data can cause."""


class DataError(ValueError):
    """Something in the user's files or options is wrong; the message is one line that names it and says what to do."""


def reason(error: BaseException) -> str:
    """Return the one line of a reading library's message that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if ".cxx:" in lines[0]:  # ITK: a line of its source, its class, and for NRRD a chain that ends in the cause
        return lines[-1].split(": ", 1)[-1] if lines[-1].startswith("[nrrd]") else "ITK cannot read its voxels"
    return lines[0]

# SPDX-License-Identifier: Apache-2.0
"""The error that a user's own data can cause."""


class DataError(ValueError):
    """Something in the user's files or options is wrong; the message is one line that names it and says what to do."""

# SPDX-License-Identifier: Apache-2.0
"""One of the lists of cases that a data set folder holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .errors import DataError

if TYPE_CHECKING:
    from .case_folder import CaseFolder


class CaseList(Sequence):
    """A list of cases, `{"image": path or paths, "label": path}`, that looks at the disk only when it is first used.

    Where the split gives domains, a case has the key "domain" too.

    Args:
        folder: the folder that the cases come from.
        part: "labeled", "unlabeled", "validation" or "test".
    """

    def __init__(self, folder: CaseFolder, part: str) -> None:
        self.folder = folder
        self.part = part

    @cached_property
    def _cases(self) -> list[dict[str, Any]]:
        names = self.folder.names[self.part]
        if not names and self.part in ("labeled", "test"):
            raise DataError(self.folder.why_empty(self.part))
        return [self.folder.item(name, labeled=self.part != "unlabeled") for name in names]

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, index: int | slice) -> Any:
        return self._cases[index]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._cases)

    def __repr__(self) -> str:
        return f"CaseList({self.part!r} of {self.folder.dataset_dir})"

# SPDX-License-Identifier: Apache-2.0
"""The uncertainty of a prediction as a post-processing step."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..ops import predictive_entropy

KINDS = {"": "", "false": "", "true": "entropy", "entropy": "entropy", "disagreement": "disagreement"}


def uncertainty_kind(word: bool | str) -> str:
    """Return which uncertainty is asked for: "entropy", "disagreement" or "" for none.

    Args:
        word: False, True for the entropy, or one of the two words; texts in place of the first two, as a command line
            gives them.

    Raises:
        ValueError: for another word.
    """
    if str(word).lower() not in KINDS:
        raise ValueError(f"uncertainty is {word!r}; give false, true, entropy or disagreement")
    return KINDS[str(word).lower()]


class UncertaintyMapd(MapTransform):
    """Add a prediction's uncertainty, from 0 to 1, as a map of its own.

    Args:
        keys: probabilities `(K, X, Y, Z)`, followed by the network's disagreement as one more channel for that kind.
        kind: see :func:`uncertainty_kind`. "entropy" is the entropy of the probabilities; "disagreement" takes the last
            channel off them, the mean over the windows of what the network calls its disagreement, from 0 to 1.
        output_key: where the map `(1, X, Y, Z)` goes.
    """

    def __init__(self, keys: KeysCollection, kind: bool | str = "entropy", output_key: str = "uncertainty") -> None:
        super().__init__(keys)
        self.kind = uncertainty_kind(kind)
        self.output_key = output_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the map added; the probabilities stay."""
        item = dict(data)
        for key in self.key_iterator(item):
            # interpolation back to the scan's grid can leave values a rounding error outside [0, 1]
            maps = item[key].clamp(0, 1)
            if self.kind == "disagreement":
                item[key], item[self.output_key] = item[key][:-1], maps[-1:]
            elif self.kind == "entropy":
                item[self.output_key] = predictive_entropy(maps, dim=0)
        return item

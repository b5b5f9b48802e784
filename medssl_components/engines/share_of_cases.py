# SPDX-License-Identifier: Apache-2.0
"""Which cases a process of several evaluates or predicts."""

from __future__ import annotations

from collections.abc import Sized

import torch.distributed as dist


def share_of_cases(dataset: Sized, idle: bool = False) -> range:
    """Return the indices of this process's cases, as the sampler of a loader.

    The processes have neighbouring pieces, in their order, whose sizes differ by one at most; without processes one has
    all. If there are fewer cases than processes, all processes have all cases: metrics are gathered from all of them,
    so none may be absent, and a mean over cases stays what it is.

    Args:
        dataset: of all cases.
        idle: with too few cases, some processes have none instead. For predictions, which every case needs once.
    """
    cases = len(dataset)
    distributed = dist.is_available() and dist.is_initialized()
    rank, processes = (dist.get_rank(), dist.get_world_size()) if distributed else (0, 1)
    if cases < processes and not idle:
        return range(cases)
    return range(cases * rank // processes, cases * (rank + 1) // processes)

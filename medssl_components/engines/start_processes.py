# SPDX-License-Identifier: Apache-2.0
"""The start of a training on several devices."""

from __future__ import annotations

import ignite.distributed
import torch
import torch.distributed as dist


def start_processes(backend: str = "auto") -> None:
    """Join the processes that `torchrun` has started.

    Args:
        backend: of `torch.distributed`; "auto" is nccl with GPUs and gloo without.
    """
    if backend == "auto":
        backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend)
    # ignite makes a process group of its own when it is first asked for the rank, and all processes must be there for
    # it: a handler that only the first process has would wait for the others for ever
    ignite.distributed.sync()

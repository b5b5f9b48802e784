# SPDX-License-Identifier: Apache-2.0
"""The start and the end of a run on several devices."""

from __future__ import annotations

import os
import time

import ignite.distributed
import torch
import torch.distributed as dist


def start_processes(backend: str = "auto") -> None:
    """Join the processes that `torchrun` has started; a second call changes nothing.

    Args:
        backend: of `torch.distributed`; "auto" is nccl with GPUs and gloo without.
    """
    if dist.is_initialized():  # MONAI Label's empty run id evaluates `initialize` twice
        return
    if backend == "auto":
        backend = "nccl" if torch.cuda.is_available() else "gloo"
    if backend == "nccl":
        # gathered metrics and objects go to the current GPU, which is the first one for all processes otherwise
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group(backend)
    # ignite makes a process group of its own when it is first asked for the rank, and all processes must be there for
    # it: a handler that only the first process has would wait for the others for ever
    ignite.distributed.sync()


def stop_processes() -> None:
    """Wait for the other processes, then leave them; a second call changes nothing."""
    if not dist.is_initialized():
        return
    gloo = dist.get_backend() == "gloo"
    dist.barrier()
    dist.destroy_process_group()
    if gloo:
        # its threads drop their last tensors under the interpreter's lock, and abort the process ("terminate called
        # without an active exception") where the interpreter has ended before a busy machine let them: wait, unlocked
        time.sleep(0.5)

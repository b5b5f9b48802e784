# SPDX-License-Identifier: Apache-2.0
"""Which number format a device computes in, and the region in which it does so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


def resolve_precision(precision: str, device: torch.device | str) -> torch.dtype | None:
    """Turn the word for a precision into the type that :func:`autocast` takes.

    ``"auto"`` is bf16 on a CUDA device that supports it and on an x86 processor with bf16 instructions, else fp32.

    Args:
        precision: ``"auto"``, ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        device: the device that computes.

    Returns:
        ``torch.bfloat16``, ``torch.float16``, or ``None`` for fp32.

    Raises:
        ValueError: for an unknown word, fp16 on a CPU, or bf16 on a CUDA device without it.
    """
    device = torch.device(device)
    if precision not in ("auto", "fp32", "bf16", "fp16"):
        raise ValueError(f'precision "{precision}" is unknown: use one of auto, fp32, bf16, fp16')
    if precision == "auto":
        return torch.bfloat16 if _computes_bf16(device) else None
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("precision fp16 is not for training on a CPU: use auto, bf16 or fp32")
    if precision == "bf16" and device.type == "cuda" and not _computes_bf16(device):
        raise ValueError(f"precision bf16 is not supported by {device}: use auto, fp16 or fp32")
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


@contextmanager
def autocast(device: torch.device | str, dtype: torch.dtype | None) -> Iterator[None]:
    """Compute in mixed precision within a ``with`` block, on a CPU with :class:`SmallMapsInFloat32`.

    Args:
        device: the device that computes.
        dtype: what :func:`resolve_precision` returned; ``None`` changes nothing.
    """
    if dtype is None:
        yield
        return
    device_type = torch.device(device).type
    guard = SmallMapsInFloat32() if device_type == "cpu" else nullcontext()
    with torch.autocast(device_type, dtype=dtype), guard:
        yield


class SmallMapsInFloat32(TorchFunctionMode):
    """Within a ``with`` block, run 3-D convolutions from or to a small map in fp32, forward and backward.

    In bf16 on a CPU the weight gradient of a 3x3x3 convolution on a map with a side of 2 comes out infinite or wrong
    (torch 2.13). Scripted modules are not reached; their forward is right in any case.

    Args:
        largest_side: a map is small if its shortest side, in voxels, is not longer than this.
    """

    def __init__(self, largest_side: int = 2) -> None:
        super().__init__()
        self.largest_side = largest_side

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one function of PyTorch, a convolution on a small map in fp32."""
        kwargs = kwargs or {}
        if func is not functional.conv3d and func is not functional.conv_transpose3d:
            return func(*args, **kwargs)
        if not self._is_small(args[0] if args else kwargs["input"]):
            output = func(*args, **kwargs)
            # Only the result knows its size for all kinds of padding. Repeating a layer with a small result is cheap.
            if not self._is_small(output):
                return output
        with torch.autocast("cpu", enabled=False):
            return func(*map(_float32, args), **{name: _float32(value) for name, value in kwargs.items()})

    def _is_small(self, image: torch.Tensor) -> bool:
        return min(image.shape[-3:]) <= self.largest_side


def _float32(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) else value


def _computes_bf16(device: torch.device) -> bool:
    """Tell whether a device has bf16 in hardware and PyTorch's 3-D convolutions use it."""
    if device.type == "cuda":
        if not torch.cuda.is_available():
            return False
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    # Releases before the public query have private ones, by varying names.
    queries = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(query() for query in queries if query is not None)

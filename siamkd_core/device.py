"""Where and in which precision to compute."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from siamkd_core.errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(name: str) -> torch.device:
    """``auto`` (CUDA if there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: an unknown name, or CUDA asked for where there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r} is not supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if count == 0 or (device.index or 0) >= count:
            raise ConfigError(
                f"device {name!r} was asked for, but PyTorch sees {count} CUDA devices; "
                "use device: cpu, or install a PyTorch built for this CUDA"
            )
    return device


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """``auto``, ``float32``, ``bfloat16`` or ``float16``.

    ``auto`` takes bfloat16 where the hardware has it (on a CPU without bfloat16 instructions it is
    emulated and about ten times slower than float32), on an older GPU float16, else float32.

    Raises:
        ConfigError: an unknown name.
    """
    if name != "auto":
        if name not in DTYPES:
            raise ConfigError(f"unknown precision {name!r}; use auto, {', '.join(DTYPES)}")
        return DTYPES[name]
    if device.type == "cuda":
        ampere = torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if ampere else torch.float16
    return torch.bfloat16 if _cpu_has_bfloat16() else torch.float32


def set_threads(threads: int | None) -> None:
    """PyTorch's CPU threads in this process; None or 0 leaves its choice.

    Raises:
        ConfigError: a negative number.
    """
    if not threads:
        return
    if threads < 0:
        raise ConfigError(f"threads must not be negative, got {threads}; 0 leaves PyTorch's choice")
    torch.set_num_threads(threads)


def processor() -> str:
    """The CPU's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cpu_has_bfloat16() -> bool:
    # get_capabilities is public since PyTorch 2.9; older ones only have the private probes
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16"))
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())


def short(dtype: torch.dtype) -> str:
    """Its name without ``torch.``, as :func:`resolve_precision` takes it."""
    return str(dtype).removeprefix("torch.")

"""Peak memory of tracking with one model, measured in a process of its own.

``python -m siamkd_core.footprint '["siamfc", "cpu", "auto", 2, "torch"]'`` is that process; it
prints bytes.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import torch

from siamkd_core.backends import make_backend
from siamkd_core.benchmark import BOX, picture
from siamkd_core.device import set_threads
from siamkd_core.errors import SiamkdError
from siamkd_core.siamfc import SiamFC
from siamkd_core.tracker import load_tracker

UPDATES = 5
TINY = (4, 4, 4, 4, 4)


def peak_memory(
    model: str | Path,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    backend: str = "auto",
) -> int:
    """Bytes that loading a model and tracking a few frames with it takes at most.

    CPU: the highest resident memory of a process that tracks, less that of the same process when
    it had imported everything and its backend had a network of next to nothing. CUDA: the most
    that PyTorch had allocated on the device.

    Args:
        model: shipped name or path.
        device, precision, threads, backend: see :func:`siamkd_core.tracker.load_tracker`.

    Raises:
        SiamkdError: the process failed; says how.
    """
    options = [device, precision, threads, backend]
    command = [sys.executable, "-m", "siamkd_core.footprint", json.dumps([str(model), *options])]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        command, env=dict(os.environ, PYTHONPATH=path), capture_output=True, text=True
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise SiamkdError(f"{model}: the process that measures memory failed: {last[0]}")
    return int(done.stdout)


def highest_resident() -> int:
    """Bytes of this process's peak resident memory."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
    # getrusage hands down the peak of the process that started this one, as Linux counts it
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def cuda_peak() -> int:
    """Most bytes that PyTorch had allocated, on whichever device the model is."""
    devices = range(torch.cuda.device_count())
    return sum(torch.cuda.max_memory_allocated(device) for device in devices)


def main() -> None:
    """Track, and print the bytes."""
    model, device, precision, threads, backend = json.loads(sys.argv[1])
    set_threads(threads)
    image = picture()
    # what a runtime takes whatever it runs
    make_backend(SiamFC(TINY), backend, device, precision)
    before = highest_resident()
    tracker = load_tracker(model, device, precision, threads, backend)
    tracker.init(image, BOX)
    for _ in range(UPDATES):
        tracker.update(image)
    if torch.cuda.is_initialized():
        print(cuda_peak())
    else:
        print(highest_resident() - before)


if __name__ == "__main__":
    main()

"""What the machine must bring before .venv can be made, and the command that installs it.

Runs on the system's Python: standard library only.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import NamedTuple

PYTHONS = ((3, 10), (3, 11), (3, 12))
GLIBC = (2, 28)  # the ROS wheels are manylinux_2_28
# PyTorch with CUDA, which is what PyPI gives on Linux, takes 5 of them.
DISK_GB = 8.0

C_SOURCE = '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n'
CXX_SOURCE = (
    "#include <vector>\nint main() { return static_cast<int>(std::vector<int>().size()); }\n"
)


class Missing(NamedTuple):
    """One thing the machine lacks; `apt` is the package that brings it, "" where none does."""

    what: str
    apt: str = ""


def missing_prerequisites(folder: Path) -> list[Missing]:
    """Everything that keeps the set-up from working in `folder`, found without changing it."""
    found = [*_platform(), *_python(), *_compilers()]
    free = shutil.disk_usage(folder).free / 1e9
    if free < DISK_GB:
        found.append(Missing(f"disk space: {free:.1f} GB are free at {folder}, {DISK_GB:g} needed"))
    return found


def explain(missing: list[Missing]) -> str:
    """The message for the person at the terminal: what is missing and what installs it."""
    lines = ["The set-up needs what this machine does not have:"]
    lines += [f"  - {item.what}" for item in missing]
    packages = list(dict.fromkeys(item.apt for item in missing if item.apt))
    if packages:
        sudo = "" if os.geteuid() == 0 else "sudo "
        lines += ["Install it with", f"    {sudo}apt install {' '.join(packages)}"]
    return "\n".join(lines)


def _platform() -> list[Missing]:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        here = f"{sys.platform} on {platform.machine()}"
        return [
            Missing(
                f"Linux on x86_64 (this is {here}): the ROS wheels exist for nothing else; "
                "with ROS installed, use colcon build"
            )
        ]
    name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "unknown 0.0").partition(" ")
    if name != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < GLIBC:
        return [Missing(f"glibc {GLIBC[0]}.{GLIBC[1]} or newer (this is {name} {version})")]
    return []


def _python() -> list[Missing]:
    version = sys.version_info[:2]
    name = f"python{version[0]}.{version[1]}"
    if version not in PYTHONS:
        return [
            Missing(
                f"CPython 3.10, 3.11 or 3.12 (this is {name}); choose one with "
                "make PYTHON=<interpreter>",
                "python3",
            )
        ]
    found = []
    # Debian splits the standard library: venv is there without ensurepip, and then fails.
    if any(importlib.util.find_spec(module) is None for module in ("venv", "ensurepip")):
        found.append(Missing(f"the venv module of {name}", f"{name}-venv"))
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        found.append(Missing(f"the header files of {name} (Python.h)", f"{name}-dev"))
    return found


def _compilers() -> list[Missing]:
    found = []
    if not _compiles(os.environ.get("CC", "cc"), "c", C_SOURCE):
        found.append(Missing("a C compiler that works (cc, or what CC names)", "build-essential"))
    if not _compiles(os.environ.get("CXX", "c++"), "c++", CXX_SOURCE):
        found.append(
            Missing("a C++ compiler that works (c++, or what CXX names)", "build-essential")
        )
    return found


def _compiles(compiler: str, language: str, source: str) -> bool:
    # A compiler without the C library's headers is common enough to be worth one real build.
    with tempfile.TemporaryDirectory() as folder:
        command = [*compiler.split(), "-x", language, "-", "-o", str(Path(folder, "program"))]
        try:
            done = subprocess.run(command, input=source, text=True, capture_output=True)
        except OSError:
            return False
    return done.returncode == 0

"""Create or refresh .venv: dependencies, ROS 2 Jazzy, vision_msgs, and this package.

    python3 tools/setup_env.py

Runs on the system's Python: standard library only. Three steps, each with a key that hashes all
it depends on; .venv/setup.json remembers the keys of the finished ones. A call with nothing to do
returns at once, and an interrupted step is done again from its start.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from prerequisites import explain, missing_prerequisites

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
CACHE = ROOT / ".cache"
STAMP = VENV / "setup.json"
LOG = CACHE / "setup.log"
REQUIREMENTS = ROOT / "tools" / "requirements"
PYTHON_VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
SITE = VENV / "lib" / f"python{PYTHON_VERSION}" / "site-packages"

PACKAGE_INPUTS = ("package.xml", "setup.py", "setup.cfg", "pyproject.toml", "resource")

# Raise it when a step comes to make something else from the same inputs.
LAYOUT = 2

# Makes `.venv/bin/python` find the ROS index of .venv without anything being sourced.
PREFIX_HOOK = (
    "import os, sys; os.environ['AMENT_PREFIX_PATH'] = os.pathsep.join(dict.fromkeys("
    "[sys.prefix, *filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep))]))\n"
)


class SetupError(Exception):
    """A step failed; the message says which command and where its output is."""


class Step(NamedTuple):
    """A part of the set-up: everything in `inputs`, and every earlier step, decides its key."""

    name: str
    inputs: tuple[Path, ...]
    run: Callable[[], None]


def main() -> int:
    CACHE.mkdir(exist_ok=True)
    with open(CACHE / "setup.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return _set_up()
        except SetupError as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nThe set-up was interrupted; the next call finishes it.", file=sys.stderr)
            return 130


def _set_up() -> int:
    steps = (
        Step("environment", (REQUIREMENTS,), _make_environment),
        Step("vision_msgs", (ROOT / "tools" / "vision_msgs",), _build_vision_msgs),
        Step("package", tuple(ROOT / name for name in PACKAGE_INPUTS), _install_package),
    )
    keys = step_keys(steps, f"{LAYOUT} {sys.version} {sys.base_prefix} {VENV}")
    finished = _read_stamp()
    pending = pending_steps([step.name for step in steps], keys, finished)
    if not pending:
        return 0
    if "environment" in pending:
        missing = missing_prerequisites(ROOT)
        if missing:
            print(explain(missing), file=sys.stderr)
            return 1
    LOG.write_text("")
    started = time.monotonic()
    carry_out(steps, keys, pending, _write_stamp)
    _say(f"ready after {time.monotonic() - started:.0f} s")
    return 0


def step_keys(steps: Iterable[Step], machine: str) -> dict[str, str]:
    """One key a step: a hash over its inputs, the machine, and the key of the step before."""
    keys: dict[str, str] = {}
    previous = machine
    for step in steps:
        digest = hashlib.sha256(previous.encode())
        for path in _files(step.inputs):
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0")
            digest.update(path.read_bytes())
        keys[step.name] = previous = digest.hexdigest()
    return keys


def pending_steps(names: list[str], keys: dict[str, str], finished: dict[str, str]) -> list[str]:
    """The first step whose key is not the finished one, and all after it."""
    for index, name in enumerate(names):
        if finished.get(name) != keys[name]:
            return names[index:]
    return []


def carry_out(
    steps: Iterable[Step],
    keys: dict[str, str],
    pending: list[str],
    remember: Callable[[dict[str, str]], None],
) -> None:
    """Run the pending steps in order; `remember` the keys of all finished ones after each."""
    finished = {name: key for name, key in keys.items() if name not in pending}
    for step in steps:
        if step.name in pending:
            step.run()
            finished[step.name] = keys[step.name]
            remember(finished)


def _files(inputs: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found += [file for file in path.rglob("*") if file.is_file()]
        elif path.exists():
            found.append(path)
    return sorted(file for file in found if "__pycache__" not in file.parts)


def _read_stamp() -> dict[str, str]:
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _write_stamp(finished: dict[str, str]) -> None:
    partial = STAMP.with_suffix(".partial")
    partial.write_text(json.dumps(finished, indent=1) + "\n")
    partial.replace(STAMP)


def _make_environment() -> None:
    _say(f"creating .venv with Python {PYTHON_VERSION}")
    # What an interrupted or older set-up left is not worth mending: pip's cache makes it cheap.
    shutil.rmtree(VENV, ignore_errors=True)
    base = getattr(sys, "_base_executable", sys.executable)
    _run([base, "-m", "venv", str(VENV)])
    (SITE / "siamkd_prefix.pth").write_text(PREFIX_HOOK)
    _say("installing PyTorch, OpenCV, ROS 2 Jazzy and the test tools (minutes, the first time)")
    files = [f"--requirement={REQUIREMENTS / name}.txt" for name in ("core", "ros", "dev")]
    _pip("install", *files)
    _pip("install", "--no-deps", "--no-build-isolation", f"--requirement={REQUIREMENTS}/nodeps.txt")


def _build_vision_msgs() -> None:
    _say("building the vision_msgs interface (about half a minute)")
    _mend_wheel_paths()
    build = CACHE / "vision_msgs"
    shutil.rmtree(build, ignore_errors=True)
    _run(
        [
            VENV / "bin" / "cmake",
            "-S",
            ROOT / "tools" / "vision_msgs",
            "-B",
            build,
            "-G",
            "Ninja",
            f"-DCMAKE_INSTALL_PREFIX={VENV}",
            f"-DCMAKE_MAKE_PROGRAM={VENV}/bin/ninja",
            "-DCMAKE_BUILD_TYPE=Release",
            "-DBUILD_TESTING=OFF",
            f"-DPython3_EXECUTABLE={VENV}/bin/python",
        ]
    )
    _run([VENV / "bin" / "ninja", "-C", build, "install"])


def _mend_wheel_paths() -> None:
    """The wheels' CMake files name the Python of the machine that built them: name ours."""
    include = subprocess.run(
        [VENV / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_path('include'))"],
        env=_environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    for path in (VENV / "share").rglob("*.cmake"):
        text = path.read_text()
        if "/opt/python/" in text:
            path.write_text(wheel_paths_mended(text, include, str(SITE)))


def wheel_paths_mended(text: str, include: str, site_packages: str) -> str:
    """`text` with manylinux's Python folders replaced by this machine's."""
    home = r"/opt/python/cp\d+-cp\d+"
    text = re.sub(home + r"/include/python3\.\d+", lambda _: include, text)
    return re.sub(home + r"/lib/python3\.\d+/site-packages", lambda _: site_packages, text)


def _install_package() -> None:
    _say("installing siamkd_ros from this folder")
    _pip("install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    # An editable install leaves out what is not Python. Links instead of copies: an edited launch
    # or configuration file counts at once. `ros2 run` looks for executables in lib/siamkd_ros.
    index = VENV / "share" / "ament_index" / "resource_index" / "packages"
    _link(index / "siamkd_ros", ROOT / "resource" / "siamkd_ros")
    for name in ("package.xml", "launch", "config"):
        _link(VENV / "share" / "siamkd_ros" / name, ROOT / name)
    for name in ("siamkd", "tracker", "camera", "box_picker", "select_box"):
        _link(VENV / "lib" / "siamkd_ros" / name, VENV / "bin" / name)


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(target, link.parent))


def _pip(*arguments: str) -> None:
    _run(
        [
            VENV / "bin" / "python",
            "-m",
            "pip",
            "--disable-pip-version-check",
            *arguments,
            "--progress-bar=off",
            "--no-input",
        ]
    )


def _run(command: list[str | Path]) -> None:
    """Run `command` with its output in the log, showing the large downloads; raise if it fails."""
    shown = [str(part) for part in command]
    tail: list[str] = []
    with open(LOG, "a") as log:
        log.write(f"\n$ {' '.join(shown)}\n")
        process = subprocess.Popen(
            shown,
            env=_environment(),
            cwd=ROOT,
            text=True,
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                log.write(line)
                tail = [*tail[-14:], line.rstrip()]
                large = re.search(r"Downloading (\S+?)-[^/]*\((\d{2,}(?:\.\d+)?) MB\)", line)
                if large:
                    _say(f"    downloading {large[1].rsplit('/')[-1]}, {large[2]} MB")
        except BaseException:
            process.kill()  # or it would go on writing into what the next call removes
            process.wait()
            raise
    if process.wait() != 0:
        raise SetupError(
            "\n".join(tail)
            + f"\n\nThe set-up stopped at:\n    {' '.join(shown)}\n"
            + f"Its whole output is in {LOG}. Mend the cause and call make again."
        )


def _environment() -> dict[str, str]:
    """This process's environment without what would let another Python or ROS in."""
    foreign = (
        "PYTHONPATH",
        "PYTHONHOME",
        "LD_LIBRARY_PATH",
        "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
        "VIRTUAL_ENV",
        "COLCON_PREFIX_PATH",
        "PIP_TARGET",
        "PIP_PREFIX",
        "PIP_USER",
    )
    kept = {name: value for name, value in os.environ.items() if name not in foreign}
    return {
        **kept,
        "AMENT_PREFIX_PATH": str(VENV),
        "CMAKE_PREFIX_PATH": str(VENV),
        "PATH": f"{VENV / 'bin'}{os.pathsep}{kept.get('PATH', os.defpath)}",
        "PIP_REQUIRE_VIRTUALENV": "0",
    }


def _say(line: str) -> None:
    print(f"[setup] {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

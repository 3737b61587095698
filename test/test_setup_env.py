"""The set-up's decisions, its messages, and what it left in the environment the tests run in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path
from xml.etree import ElementTree

import prerequisites
import pytest
import setup_env
from prerequisites import Missing, explain, missing_prerequisites
from setup_env import Step, carry_out, pending_steps, step_keys, wheel_paths_mended

ROOT = Path(__file__).parent.parent
# RIHS01 hashes of vision_msgs 4.1.1, as a build of upstream's own package wrote them into its
# generated description files (github.com/borednuna/ipm-ws, build/vision_msgs).
UPSTREAM_HASHES = {
    "vision_msgs/msg/Detection2DArray": (
        "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968"
    ),
    "vision_msgs/msg/Detection2D": (
        "RIHS01_0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea"
    ),
    "vision_msgs/msg/BoundingBox2D": (
        "RIHS01_008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f"
    ),
    "vision_msgs/msg/Pose2D": (
        "RIHS01_b0b5d1d7b4c20dd4fcde3ed1d4b289a919290572007d67a97043814db25d3648"
    ),
    "vision_msgs/msg/Point2D": (
        "RIHS01_eab0e83f44ab4de92ceaf76dd7d0e7638f2bdd1d16ffbe16c7a136c48e407247"
    ),
    "vision_msgs/msg/ObjectHypothesis": (
        "RIHS01_51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90"
    ),
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "RIHS01_41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc"
    ),
}


def steps_over(folder: Path) -> list[Step]:
    return [Step(name, (folder / name,), lambda: None) for name in ("first", "second", "third")]


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(setup_env, "ROOT", tmp_path)
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file.txt").write_text(name)
    return tmp_path


def test_a_step_is_done_again_with_all_after_it_when_its_input_changes(inputs: Path) -> None:
    steps = steps_over(inputs)
    names = [step.name for step in steps]
    before = step_keys(steps, "machine")
    assert step_keys(steps, "machine") == before
    assert pending_steps(names, before, before) == []
    (inputs / "second" / "file.txt").write_text("changed")
    assert pending_steps(names, step_keys(steps, "machine"), before) == ["second", "third"]


def test_a_new_file_and_another_python_count_as_changes(inputs: Path) -> None:
    steps = steps_over(inputs)
    before = step_keys(steps, "Python 3.11")
    assert set(step_keys(steps, "Python 3.12").values()).isdisjoint(before.values())
    (inputs / "third" / "new.txt").write_text("")
    after = step_keys(steps, "Python 3.11")
    assert [name for name in before if after[name] != before[name]] == ["third"]


def test_an_interrupted_set_up_goes_on_with_the_step_that_did_not_finish(inputs: Path) -> None:
    ran: list[str] = []

    def stop() -> None:
        raise KeyboardInterrupt

    names = ["first", "second", "third"]
    folders = [(inputs / name,) for name in names]
    steps = [Step(name, folder, lambda: None) for name, folder in zip(names, folders, strict=True)]
    steps[1] = steps[1]._replace(run=stop)
    stamp = step_keys(steps, "an earlier Python")  # all three were finished, long ago
    keys = step_keys(steps, "machine")
    pending = pending_steps(names, keys, stamp)
    assert pending == names

    def remember(finished: dict[str, str]) -> None:
        stamp.clear()
        stamp.update(finished)
        ran.append(",".join(finished))

    with pytest.raises(KeyboardInterrupt):
        carry_out(steps, keys, pending, remember)
    assert ran == ["first"]
    pending = pending_steps(names, keys, stamp)
    assert pending == ["second", "third"]
    steps[1] = steps[1]._replace(run=lambda: None)
    carry_out(steps, keys, pending, remember)
    assert pending_steps(names, keys, stamp) == []


def test_the_paths_of_the_machine_that_built_the_wheels_are_replaced() -> None:
    text = (
        '"/opt/python/cp310-cp310/include/python3.10;'
        '/opt/python/cp310-cp310/lib/python3.10/site-packages/numpy/_core/include"'
    )
    assert wheel_paths_mended(text, "/usr/include/python3.10", "/c/.venv/lib/site") == (
        '"/usr/include/python3.10;/c/.venv/lib/site/numpy/_core/include"'
    )


def test_this_machine_has_what_the_set_up_needs() -> None:
    if shutil.which("c++") is None:
        pytest.skip("no compiler here")
    assert missing_prerequisites(ROOT) == []


def test_missing_things_are_named_together_with_one_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no compilers
    monkeypatch.setattr(prerequisites.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(prerequisites.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(prerequisites, "DISK_GB", 1e9)
    text = explain(missing_prerequisites(ROOT))
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for words in ("C compiler", "C++ compiler", "Python.h", "venv", "disk space"):
        assert words in text
    assert f"apt install {python}-venv {python}-dev build-essential" in text


def test_a_compiler_that_cannot_compile_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    assert [item.apt for item in missing_prerequisites(ROOT)] == ["build-essential"]


@pytest.mark.parametrize("version", [(3, 9), (3, 13)])
def test_another_python_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int]
) -> None:
    monkeypatch.setattr(prerequisites.sys, "version_info", (*version, 0))
    assert "CPython 3.10, 3.11 or 3.12" in explain(missing_prerequisites(ROOT))


def test_nothing_missing_by_apt_gives_no_command() -> None:
    assert "apt" not in explain([Missing("Linux on x86_64")])


def test_make_names_the_command_where_there_is_no_python() -> None:
    done = subprocess.run(
        ["make", "setup", "PYTHON="], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "apt install python3 python3-venv python3-dev" in done.stderr


def test_the_torch_of_the_set_up_is_pinned() -> None:
    lines = (ROOT / "tools/requirements/core.txt").read_text().splitlines()
    assert "torch==2.13.0" in lines


def test_the_package_is_found_the_ros_way() -> None:
    packages = pytest.importorskip("ament_index_python", reason="needs ROS 2")
    try:
        share = Path(packages.get_package_share_directory("siamkd_ros"))
    except packages.PackageNotFoundError:
        pytest.skip("siamkd_ros is not installed in this environment")
    assert (share / "package.xml").is_file()
    assert list((share / "launch").glob("*.launch.py"))
    assert (share / "config" / "tracker.yaml").is_file()
    prefix = Path(packages.get_package_prefix("siamkd_ros"))
    for name in ("siamkd", "tracker", "camera"):
        assert os.access(prefix / "lib" / "siamkd_ros" / name, os.X_OK)


def test_our_vision_msgs_has_the_type_hashes_of_upstreams() -> None:
    packages = pytest.importorskip("ament_index_python", reason="needs ROS 2")
    try:
        share = Path(packages.get_package_share_directory("vision_msgs"))
    except packages.PackageNotFoundError:
        pytest.skip("vision_msgs is not installed in this environment")
    description = share / "msg" / "Detection2DArray.json"
    if not description.is_file():
        pytest.skip("ROS 2 before Iron has no type hashes")
    listed = json.loads(description.read_text())["type_hashes"]
    hashes = {item["type_name"]: item["hash_string"] for item in listed}
    for name, expected in UPSTREAM_HASHES.items():
        assert hashes[name] == expected, name


def test_a_wheel_carries_both_packages_and_what_ros_looks_for(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("siamkd_core", "siamkd_ros", "launch", "config", "resource"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("package.xml", "setup.py", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    (copy / "siamkd_core/models").mkdir(exist_ok=True)
    (copy / "siamkd_core/models/probe.safetensors").write_bytes(b"")
    (copy / "siamkd_core/models/probe.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "."],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = copy.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    data = {name.split(".data/data/")[1] for name in names if ".data/data/" in name}
    assert {
        "share/ament_index/resource_index/packages/siamkd_ros",
        "share/siamkd_ros/package.xml",
        "share/siamkd_ros/launch/tracker.launch.py",
        "share/siamkd_ros/config/tracker.yaml",
        "share/siamkd_ros/config/fastdds.xml",
        "share/siamkd_ros/config/tracker.rviz",
    } <= data
    code = {name for name in names if ".data/" not in name and ".dist-info/" not in name}
    assert {"siamkd_core/models/probe.safetensors", "siamkd_core/models/probe.json"} <= code
    sources = [*ROOT.glob("siamkd_core/**/*.py"), *ROOT.glob("siamkd_ros/**/*.py")]
    assert {str(path.relative_to(ROOT)) for path in sources} <= code
    assert {name.split("/")[0] for name in code} == {"siamkd_core", "siamkd_ros"}
    scripts = ConfigParser()
    (listed,) = (name for name in names if name.endswith("entry_points.txt"))
    scripts.read_string(zipfile.ZipFile(wheel).read(listed).decode())
    assert set(scripts["console_scripts"]) == {
        "siamkd",
        "tracker",
        "camera",
        "box_picker",
        "select_box",
    }


def test_package_xml_and_setup_py_agree() -> None:
    root = ElementTree.parse(ROOT / "package.xml").getroot()
    assert root.get("format") == "3"
    assert root.findtext("export/build_type") == "ament_python"
    maintainer = root.find("maintainer")
    assert maintainer is not None
    # colcon takes a package with an invalid address for plain Python, and says nothing
    assert "@" in maintainer.get("email", "")
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "--name", "--version", "--license"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    declared = [root.findtext(key) for key in ("name", "version", "license")]
    assert done.stdout.split() == declared


def test_package_xml_names_what_the_tests_need() -> None:
    needed = ("pytest", "pytest-timeout", "hypothesis")
    pinned = (ROOT / "tools/requirements/dev.txt").read_text()
    assert all(f"\n{name}==" in pinned for name in needed)
    root = ElementTree.parse(ROOT / "package.xml").getroot()
    declared = {element.text for element in root.iter("test_depend")}
    assert {f"python3-{name}" for name in needed} <= declared

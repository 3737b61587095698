"""What every verb has in common: errors in a line, an exit code."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic import moving_boxes, write_sequence

from siamkd_core.cli import RESUME, VERBS, main


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, step in (("one", 1.0), ("two", -1.0)):
        write_sequence(tmp_path / "data" / name, moving_boxes(4, step=step))
    return tmp_path / "data"


def commands(model: Path, data: Path, output: Path) -> list[list[str]]:
    return [
        ["calibrate", str(model), str(data), "--draws", "10", "--device", "cpu"],
        ["tune", str(model), str(data), "--trials", "1", "--device", "cpu"],
        [
            *("evaluate", str(data), "--model", str(model), "--output", str(output)),
            *("--device", "cpu", "--record", "set"),
        ],
    ]


@pytest.fixture
def refused(
    data: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[[int], str]:
    """What one of the commands says when it fails."""

    def run(verb: int) -> str:
        assert main(commands(tiny_model, data, tmp_path / "results")[verb]) == 2
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize("verb", [0, 1, 2])
def test_a_card_that_cannot_be_written_is_told_before_the_work(
    verb: int, refused: Callable[[int], str], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(dir: Path) -> None:
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", forbidden)
    monkeypatch.setattr("siamkd_core.tracker.Tracker.update", lambda *_, **__: 1 / 0)
    card = tiny_model.with_suffix(".json")
    told = f"the card {card} cannot be written: Permission denied; make room there, or copy both"
    assert told in refused(verb)


@pytest.mark.parametrize("verb", [1, 2])
def test_a_disk_that_fills_up_is_an_error_in_a_line(
    verb: int, refused: Callable[[int], str], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    before = tiny_model.with_suffix(".json").read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    told = refused(verb)
    assert "No space left on device" in told and len(told.splitlines()) == 1
    assert tiny_model.with_suffix(".json").read_bytes() == before


@pytest.mark.parametrize(
    "error, told",
    [
        (OSError(28, "No space left on device"), "siamkd maps: No space left on device\n"),
        (PermissionError(13, "Permission denied", "/a"), "siamkd maps: /a: Permission denied\n"),
        (FileNotFoundError(2, "No such file", "/a"), None),
    ],
)
def test_what_the_file_system_refuses_is_told_and_faults_of_our_own_are_not_hidden(
    error: OSError,
    told: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refused(args: object) -> int:
        raise error

    maps = importlib.import_module("siamkd_core.cli.maps")
    monkeypatch.setattr(maps, "run", refused)
    monkeypatch.setattr(maps, "add_arguments", lambda parser: None)
    if told is None:
        with pytest.raises(FileNotFoundError):
            main(["maps"])
    else:
        assert main(["maps"]) == 2
        assert capsys.readouterr().err == told


@pytest.mark.parametrize("option", ["--seed", "--threads"])
@pytest.mark.parametrize("verb", [0, 1])
def test_a_negative_number_is_refused_in_words(
    verb: int, option: str, data: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*commands(tiny_model, data, data)[verb], option, "-1"]) == 2
    assert "must not be negative, got -1" in capsys.readouterr().err


def test_no_threads_are_those_that_pytorch_would_take(
    data: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*commands(tiny_model, data, data)[1], "--threads", "0"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize("verb", VERBS)
def test_going_on_is_promised_where_it_is_true(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(args: object) -> int:
        raise KeyboardInterrupt

    module = importlib.import_module(f"siamkd_core.cli.{verb.replace('-', '_')}")
    monkeypatch.setattr(module, "run", interrupted)
    monkeypatch.setattr(module, "add_arguments", lambda parser: None)
    assert main([verb]) == 130
    promised = "run it again to go on" in capsys.readouterr().err
    assert promised == (verb in RESUME)

"""`siamkd evaluate`, as a user runs it, with a small untrained model."""

from __future__ import annotations

import ast
import csv
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from synthetic import moving_boxes, tiny_model, write_sequence

import siamkd_core
from siamkd_core.cli import main
from siamkd_core.cli.evaluate import DECIDING_MODULES
from siamkd_core.modelfile import read_card
from siamkd_core.sequences import read_boxes


@pytest.fixture
def data(tmp_path: Path) -> Path:
    boxes = moving_boxes(5)
    write_sequence(tmp_path / "data" / "one", boxes)
    write_sequence(tmp_path / "data" / "pair", boxes, list(reversed(boxes)))
    return tmp_path / "data"


def evaluate(data: Path, model: Path, output: Path, *more: str) -> int:
    options = ["--device", "cpu", "--precision", "float32", "--threads", "1", *more]
    argv = ["evaluate", str(data), "--model", str(model), "--output", str(output), *options]
    return main(argv)


def test_whole_run_then_resume(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, output = tiny_model(tmp_path / "model"), tmp_path / "out"
    assert evaluate(data, model, output, "--pictures") == 0
    shown = capsys.readouterr().out
    assert "pair_2" in shown and "mean of 3" in shown
    folder = output / "tiny"
    names = ["one", "pair", "pair_2"]
    assert sorted(path.stem for path in folder.glob("*.txt")) == names
    assert sorted(path.stem for path in (folder / "pictures").glob("*.jpg")) == names
    assert {path.name for path in output.iterdir()} == {"tiny", "tiny.md", "tiny.csv", "tiny.png"}
    boxes = read_boxes(folder / "pair_2.txt")
    assert boxes.shape == (5, 4)
    assert tuple(boxes[0]) == moving_boxes(5)[-1]
    assert np.isfinite(boxes).all()
    table = (output / "tiny.md").read_text()
    assert re.search(r"sha256: [0-9a-f]{64}\n", table)
    assert f"siamkd evaluate {data} --model {model} --output {output} --device cpu" in table

    before = (folder / "one.txt").stat().st_mtime_ns
    (folder / "pair.txt").unlink()
    assert evaluate(data, model, output) == 0
    assert "2 of 3 sequences are in" in capsys.readouterr().out
    assert (folder / "one.txt").stat().st_mtime_ns == before
    assert (folder / "pair.txt").is_file()
    assert (output / "tiny.md").read_text().count("| one |") == 1


def test_another_model_of_the_same_name_is_run_anew(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert evaluate(data, tiny_model(tmp_path / "a", seed=0), output) == 0
    old = (output / "tiny" / "run.json").read_text()
    capsys.readouterr()
    assert evaluate(data, tiny_model(tmp_path / "b", seed=1), output) == 0
    assert "already" not in capsys.readouterr().out
    assert (output / "tiny" / "run.json").read_text() != old


def test_the_mean_goes_to_the_card_when_asked(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, output = tiny_model(tmp_path / "model"), tmp_path / "out"
    assert evaluate(data, model, output, "--record", "mine") == 0
    rows = list(csv.DictReader((output / "tiny.csv").open()))
    figures = read_card(model).measured["mine"]
    assert figures["mean_iou"] == pytest.approx(float(rows[-1]["mean_iou"]), abs=1e-4)
    assert figures["sequences"] == 3 and "--record mine" in figures["command"]
    capsys.readouterr()


def test_chosen_sequences(data: Path, tmp_path: Path) -> None:
    model, output = tiny_model(tmp_path / "model"), tmp_path / "out"
    assert evaluate(data, model, output, "--sequences", "one") == 0
    assert [path.name for path in (output / "tiny").glob("*.txt")] == ["one.txt"]


PACKAGE = Path(siamkd_core.__file__).parent
NOT_DECIDING = {
    "config": "makes the card's parameters, whose values are stored beside a run",
    "tracker_config": "names and checks those parameters",
    "device": "its choice of device and precision is stored beside a run",
    "errors": "words",
    "sequences": "the data; like the images themselves, only their number and first box are stored",
    "layout": "as sequences, of which it finds the files",
}


def imported(module: str) -> Iterator[str]:
    """Modules of the package that one imports anywhere in its code, but not for its types alone."""
    waiting: list[ast.AST] = [ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))]
    names: list[str] = []
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively, which is not followed here"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        waiting += ast.iter_child_nodes(node)
    for name in names:
        package, *inside = name.split(".")
        if package == PACKAGE.name and inside:  # a module, or something out of one
            yield inside[0]


def test_results_are_stale_after_an_edit_of_any_module_that_can_change_a_box() -> None:
    reached, waiting = set[str](), ["tracker", "evaluate"]
    while waiting:
        if (module := waiting.pop()) not in reached:
            reached.add(module)
            waiting += imported(module)
    assert len(set(DECIDING_MODULES)) == len(DECIDING_MODULES)
    assert set(DECIDING_MODULES).isdisjoint(NOT_DECIDING)
    assert reached == set(DECIDING_MODULES) | set(NOT_DECIDING)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data, model: shutil.rmtree(data), "no sequence folder"),
        (lambda data, model: model.unlink(), "no model"),
        (lambda data, model: (data / "one/groundtruth.txt").write_text("1,2\n"), "x,y,w,h"),
    ],
)
def test_mistakes_are_told_in_one_line(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path, Path], object],
    message: str,
) -> None:
    model = tiny_model(tmp_path / "model")
    spoil(data, model)
    assert evaluate(data, model, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("siamkd evaluate: ") and error.count("\n") == 1

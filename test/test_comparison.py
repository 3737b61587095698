"""Models side by side: what the table says of them, and how they take turns."""

import csv
import itertools
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.axes import Axes
from synthetic import tiny_model
from training_support import write_tracks

from siamkd_core import benchmark
from siamkd_core.accuracy import Accuracy, recorded, reported
from siamkd_core.benchmark import BOX, Timing, measure, picture, uncalibrated
from siamkd_core.box import Box
from siamkd_core.cli import main
from siamkd_core.comparison import Cost, markdown, rows, terminal_table
from siamkd_core.comparison_plot import plot
from siamkd_core.complexity import Complexity
from siamkd_core.errors import ConfigError, DataError, SiamkdError
from siamkd_core.footprint import cuda_peak, peak_memory
from siamkd_core.metrics import measure as measure_boxes
from siamkd_core.modelfile import ModelCard, read_card, save_model, write_card
from siamkd_core.report import Report, Row, comma_separated
from siamkd_core.siamfc import SiamFC, count_parameters
from siamkd_core.siamrpn import HeadConfig, SiamRPN
from siamkd_core.tracker import Tracker, load_tracker
from siamkd_core.tracker_config import ScoreConfig, TrackerConfig

BOXES = np.array([[10.0, 10.0, 20.0, 20.0]] * 4)
BIG = Cost(
    "big",
    "siamrpn, alexnet, upchannel",
    Complexity(2_336_320, 9_361_000, 8_167_095_648),
    Timing(
        np.array([[0.030, 0.020, 0.040], [0.060, 0.060, 0.060]]),
        np.full((2, 3), 0.018),
        np.full((2, 3), 0.007),
    ),
    70_000_000,
)
SMALL = Cost(
    "small",
    "siamfc, efficientnet",
    Complexity(172_954, 704_000, 899_000_000),
    Timing(
        np.array([[0.010, 0.010, 0.010], [0.010, 0.010, 0.010]]),
        np.full((2, 3), 0.008),
        np.full((2, 3), 0.001),
    ),
    7_500_000,
    Accuracy(0.7204, 0.7321),
)


def test_a_row_a_figure_and_a_column_a_model():
    header, *body = rows([BIG, SMALL])
    assert header == ("", "big", "small")
    table = {name: values for name, *values in body}
    assert table == {
        "family": ["siamrpn, alexnet, upchannel", "siamfc, efficientnet"],
        "parameters": ["2,336,320", "172,954"],
        "file, MB": ["9.36", "0.70"],
        "multiply-adds a frame, millions": ["8,167", "899"],
        "peak memory, MB": ["70.0", "7.5"],
        # of 20, 30, 40, 60, 60, 60 ms
        "frame, ms, median": ["50.00", "10.00"],
        "frame, ms, 95 %": ["60.00", "10.00"],
        "of it the network, ms, median": ["18.00", "8.00"],
        "second look, ms, median": ["7.00", "1.00"],
        "smaller": ["1.0x", "13.5x"],
        # 3 in the first round, 6 in the second
        "faster": ["1.00x", "4.50x"],
        "AUC": ["-", "0.720"],
        "mean IoU": ["-", "0.732"],
    }


def test_the_markdown_has_the_facts_and_the_definitions():
    text = markdown([BIG, SMALL], {"processor": "a fast one", "command": "`siamkd compare`"})
    assert "- processor: a fast one" in text and "- command: `siamkd compare`" in text
    assert "\n|  | big | small |\n|---|---:|---:|\n" in text
    assert "| smaller | 1.0x | 13.5x |" in text
    assert "took turns in one run" in text


def test_the_terminal_has_the_same_table():
    table = terminal_table([BIG, SMALL])
    assert [column.header for column in table.columns] == ["", "big", "small"]
    assert table.row_count == len(rows([BIG])) - 1


class Turns:
    """A tracker that takes down whose frame it was, and from where it was searched."""

    def __init__(self, name: str, taken: list[str]) -> None:
        self.name, self.taken = name, taken
        self.box = Box(0, 0, 1, 1)

    def init(self, image, box) -> None:
        assert image.shape == (360, 640, 3) and box == BOX

    def move_to(self, box, turned=0.0) -> None:
        self.box = box

    def update(self, image, learn, turn, revisit):
        assert self.box == BOX and not (learn or turn or revisit)
        self.box = Box(0, 0, 1, 1)
        self.taken.append(self.name)
        return SimpleNamespace(seconds={"model": 0.25})

    def alike(self, image, box) -> float:
        assert box == BOX
        return 1.0


def test_the_models_take_turns_and_an_untimed_frame_comes_first(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(clock))
    taken, done = [], []
    timings = measure(
        {name: Turns(name, taken) for name in "abc"}, 4, 2, lambda: done.append(len(taken))
    )
    assert "".join(taken) == "aaabbbccc" + "bbbcccaaa" + "cccaaabbb" + "aaabbbccc"
    assert done == [9, 18, 27, 36]
    assert timings["b"].frames.tolist() == [[1, 1]] * 4
    assert timings["b"].network.tolist() == [[0.25, 0.25]] * 4
    assert timings["b"].second.tolist() == [[1, 1]] * 4


def test_a_tracker_is_timed_as_it_is(tmp_path):
    tracker = load_tracker(tiny_model(tmp_path), "cpu", "float32")
    timing = measure({"tiny": tracker}, 2, 1)["tiny"]
    assert timing.frames.shape == (2, 1)
    assert (timing.frames > timing.network).all() and (timing.network > 0).all()
    assert (timing.second > 0).all()
    assert picture().dtype == np.uint8


def test_a_frame_is_the_search_alone_whatever_the_score_asks_for(tmp_path):
    tracker = load_tracker(tiny_model(tmp_path), "cpu", "float32")
    asking = Tracker(tracker.backend, replace(tracker.card, score=ScoreConfig(1.0, 0.0, 1.0)))
    for one, looks in ((asking, True), (uncalibrated(asking), False)):
        one.init(picture(), BOX)
        assert np.isfinite(one.update(picture(), learn=False).likeness) == looks


def test_memory_is_that_of_the_model(tmp_path):
    widths = (96, 256, 384, 384, 256)
    network = SiamFC(widths)
    card = ModelCard("large", "siamfc", widths, count_parameters(network))
    peak = peak_memory(save_model(network, card, tmp_path), "cpu", "float32", 1, "torch")
    # the weights, and the first layer's output for three search regions of 255 px
    needed = 4 * (card.parameters + 3 * 96 * 123**2)
    # PyTorch, which is not counted, takes more than the upper bound
    assert needed < peak < 6 * needed


def test_the_memory_of_another_than_the_first_gpu_counts(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    # a model on cuda:1; without an index PyTorch answers for cuda:0
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda device=0: (0, 5_000)[device])
    assert cuda_peak() == 5_000


def test_a_process_that_fails_is_told_of(monkeypatch):
    monkeypatch.setattr("sys.executable", "false")
    with pytest.raises(SiamkdError, match="mine: the process that measures memory failed"):
        peak_memory("mine")


def test_the_command(tmp_path, capsys, monkeypatch):
    # two processes that import PyTorch; what they find is tested above
    monkeypatch.setattr("siamkd_core.footprint.peak_memory", lambda *_: 12_300_000)
    one, two = (tiny_model(tmp_path / f"m{seed}", seed) for seed in range(2))
    write_card(replace(read_card(two), tracker=TrackerConfig(search_size=239)), two)
    output = tmp_path / "tables" / "costs.md"
    command = ["compare", str(one), str(two), "--rounds", "1", "--frames", "1", "--device", "cpu"]
    command += ["--backend", "torch", "--threads", "1"]
    assert main([*command, "--output", str(output)]) == 0
    said, text = capsys.readouterr().out, output.read_text()
    for shown in (said, text):
        assert "12.3" in shown and "processor: " in shown and "backend: PyTorch" in shown
        assert "m0/tiny: 3 x 255 px; m1/tiny: 3 x 239 px" in shown
        assert "--rounds 1 --frames 1 --device cpu --backend torch --threads 1" in shown
    assert "|  | m0/tiny | m1/tiny |" in text and "| smaller | 1.0x | 1.0x |" in text
    # a folder that is a file
    assert main([*command, "--output", str(output / "costs.md")]) == 2
    assert f"cannot write {output / 'costs.md'}" in capsys.readouterr().err
    assert main(["compare", str(one), str(one)]) == 2
    assert "twice" in capsys.readouterr().err
    assert main([*command, "--frames", "0"]) == 2
    assert main(["compare", "no_such_model"]) == 2


def test_backends_side_by_side(tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnxruntime", reason="the extra onnxruntime is not installed")
    asked = []
    monkeypatch.setattr(
        "siamkd_core.footprint.peak_memory", lambda *given: asked.append(given) or 1_000_000
    )
    output = tmp_path / "costs.md"
    command = ["compare", str(tiny_model(tmp_path)), "--rounds", "1", "--frames", "1"]
    both = ["--backend", "torch", "--backend", "onnxruntime"]
    where = ["--device", "cpu", "--precision", "float32", "--threads", "1"]
    assert main([*command, *both, *where, "--output", str(output)]) == 0
    text = output.read_text()
    assert "|  | tiny, torch | tiny, onnxruntime |" in text
    assert "CPU, 1 threads, float32; ONNX Runtime" in text and "backend: PyTorch" in text
    assert "--backend torch --backend onnxruntime --threads 1" in text
    assert [given[1:] for given in asked] == [
        ("cpu", "float32", 1, "torch"),
        ("cpu", "float32", 1, "onnxruntime"),
    ]
    assert main([*command, "--backend", "torch", "--backend", "torch"]) == 2
    assert "a backend is named twice" in capsys.readouterr().err


def test_a_recipe_stands_beside_the_models(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("siamkd_core.footprint.peak_memory", lambda *_: 12_300_000)
    small = tiny_model(tmp_path / "m")
    card = read_card(small)
    write_card(replace(card, measured={"eval": {"auc": 0.61, "mean_iou": 0.64}}), small)
    recipe = tmp_path / "large.yaml"
    recipe.write_text(
        "{name: tiny, architecture: siamrpn, widths: [4, 5, 6, 6, 3],"
        " head: {kind: depthwise, width: 7}}"
    )
    output, picture = tmp_path / "costs.md", tmp_path / "costs.png"
    command = ["compare", str(recipe), str(small), "--rounds", "1", "--frames", "1"]
    command += ["--device", "cpu", "--threads", "1", "--record", "eval"]
    assert main([*command, "--output", str(output), "--plot", str(picture)]) == 0
    text = output.read_text()
    assert "|  | untrained/tiny | m/tiny |" in text
    assert "| family | siamrpn, alexnet, depthwise | siamfc, alexnet |" in text
    network = SiamRPN((4, 5, 6, 6, 3), HeadConfig("depthwise", 7))
    assert f"| parameters | {count_parameters(network):,} | {card.parameters:,} |" in text
    assert "| AUC | - | 0.610 |" in text and "| mean IoU | - | 0.640 |" in text
    assert "--record eval" in text and str(recipe) in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"plot in {picture}" in capsys.readouterr().out
    recipe.write_text("{name: tiny, architecture: siamrpn, widths: [4, 5, 6, 6, 3]}")
    assert main(command) == 2
    assert "needs a head" in capsys.readouterr().err


def test_accuracy_is_that_of_an_evaluation(tmp_path):
    rows = [
        Row(n, measure_boxes(BOXES + shift, BOXES), 3, 1.0) for n, shift in (("a", 0), ("b", 3))
    ]
    report = Report("mine", tuple(rows))
    (tmp_path / "mine.csv").write_text(comma_separated(report))
    mean = report.mean.measures
    mine = ModelCard("mine", "siamfc", (2, 4, 4, 4, 2), 1, sha256="ab" * 32)
    with pytest.raises(DataError, match=r"mine\.csv is of an unknown model"):
        reported(tmp_path, mine)
    (tmp_path / "mine").mkdir()
    # what is not in the table does not count
    ran = {name: {"identity": {"sha256": mine.sha256}} for name in "ab"} | {"c": {"identity": {}}}
    (tmp_path / "mine" / "run.json").write_text(json.dumps({"sequences": ran}))
    found = reported(tmp_path, mine)
    assert found.auc == pytest.approx(mean.auc, abs=1e-6) and found.auc < 1
    assert found.mean_iou == pytest.approx(mean.mean_iou, abs=1e-6)
    assert reported(tmp_path, replace(mine, name="other")) is None
    with pytest.raises(DataError, match="no folder"):
        reported(tmp_path / "none", mine)
    with pytest.raises(DataError, match=r"sha256 abababababab\.\.\., not of this mine, cdcdcd"):
        reported(tmp_path, replace(mine, sha256="cd" * 32))
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"mine\.csv is no table"):
        reported(tmp_path, mine)
    card = ModelCard("c", "siamfc", (2, 4, 4, 4, 2), 1, measured={"e": {"auc": 0.5}, "f": 3})
    assert recorded(card, "nothing") is None
    for name in ("e", "f"):
        with pytest.raises(DataError, match=rf"measured\.{name} in the card of c"):
            recorded(card, name)


def test_a_namesake_does_not_get_the_accuracy(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("siamkd_core.footprint.peak_memory", lambda *_: 12_300_000)
    one, two = (tiny_model(tmp_path / f"m{seed}", seed) for seed in range(2))
    data, results = write_tracks(tmp_path / "data"), tmp_path / "results"
    options = ["--device", "cpu", "--precision", "float32", "--threads", "1"]
    evaluated = ["evaluate", str(data), "--model", str(one), "--output", str(results), *options]
    assert main([*evaluated, "--sequences", "held"]) == 0
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text("{name: tiny, widths: [4, 8, 8, 8, 4]}")
    command = ["--results", str(results), "--rounds", "1", "--frames", "1", *options]
    output = tmp_path / "costs.md"
    assert main(["compare", str(one), str(recipe), *command, "--output", str(output)]) == 0
    (line,) = (line for line in output.read_text().splitlines() if line.startswith("| AUC |"))
    with (results / "tiny.csv").open() as file:
        auc = float(list(csv.DictReader(file))[-1]["auc"])
    assert line == f"| AUC | {auc:.3f} | - |"
    capsys.readouterr()
    assert main(["compare", str(one), str(two), *command]) == 2
    said = capsys.readouterr().err
    assert f"of the model with the sha256 {read_card(one).sha256[:12]}" in said
    assert read_card(two).sha256[:12] in said


def test_accuracy_that_nobody_has_is_told_before_anything_is_measured(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("siamkd_core.footprint.peak_memory", lambda *_: pytest.fail("measured"))
    model = tiny_model(tmp_path)
    write_card(replace(read_card(model), measured={"eval": {"auc": 0.6, "mean_iou": 0.6}}), model)
    for options in (["--plot", "a.png"], ["--record", "evil"], ["--results", str(tmp_path)]):
        assert main(["compare", str(model), "--device", "cpu", *options]) == 2
        assert "their cards have the sets eval)" in capsys.readouterr().err


def test_recipes_of_one_stem_are_two_networks(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("siamkd_core.footprint.peak_memory", lambda *_: 12_300_000)
    recipes = [tmp_path / folder / "tiny.yaml" for folder in "ab"]
    for recipe, width in zip(recipes, (4, 8), strict=True):
        recipe.parent.mkdir()
        recipe.write_text(f"{{name: tiny, widths: [{width}, 8, 8, 8, 4]}}")
    output = tmp_path / "costs.md"
    command = ["--rounds", "1", "--frames", "1", "--device", "cpu", "--output", str(output)]
    assert main(["compare", *map(str, recipes), *command]) == 0
    sizes = [count_parameters(SiamFC((width, 8, 8, 8, 4))) for width in (4, 8)]
    assert f"| parameters | {sizes[0]:,} | {sizes[1]:,} |" in output.read_text()
    assert main(["compare", str(recipes[0]), str(recipes[0]), *command]) == 2
    assert "twice" in capsys.readouterr().err
    students = "[{name: a, widths: [2, 4, 4, 4, 2]}]"
    recipes[0].write_text(f"{{teacher: t, students: {students}, sharing: {{variant: none}}}}")
    assert main(["compare", str(recipes[0]), *command]) == 2
    assert "a recipe of siamkd train is needed" in capsys.readouterr().err


def test_the_plot_tells_families_apart_and_names_them(monkeypatch):
    drawn, legends = {}, []
    plotted, legend = Axes.plot, Axes.legend

    def look(line):
        return line.get_marker(), line.get_color()

    def note_point(self, x, y, *args, **kwargs):
        (line,) = plotted(self, x, y, *args, **kwargs)
        drawn[y] = look(line)

    def note_legend(self, handles, names, **kwargs):
        legends.append(dict(zip(names, handles, strict=True)))
        return legend(self, handles, names, **kwargs)

    monkeypatch.setattr(Axes, "plot", note_point)
    monkeypatch.setattr(Axes, "legend", note_legend)
    families = ["siamrpn, alexnet, depthwise", "siamfc, alexnet", "siamfc, efficientnet"]
    costs = [
        replace(SMALL, name=f"{n}", family=family, accuracy=Accuracy(0.5 + n / 10, 0.5))
        for n, family in enumerate([*families, families[0]])
    ]
    plot([*costs, BIG])
    (named,) = legends
    assert set(named) == {*families, BIG.family}
    assert [drawn[cost.accuracy.auc] for cost in costs] == [look(named[c.family]) for c in costs]
    markers = {family: named[family].get_marker() for family in families}
    assert markers[families[1]] == markers[families[2]] != markers[families[0]]
    assert len({look(line) for line in named.values()}) == len(named)
    # no model of this one has a point
    assert named[BIG.family].get_linestyle() == ":"


def test_no_name_in_the_plot_covers_another(monkeypatch):
    panels = set()
    annotate = Axes.annotate

    def note(self, *args, **kwargs):
        panels.add(self)
        return annotate(self, *args, **kwargs)

    monkeypatch.setattr(Axes, "annotate", note)
    costs = [
        replace(SMALL, name=f"a_long_name_{n}", accuracy=Accuracy(0.5 + n / 200, 0.5))
        for n in range(4)
    ]
    plot([*costs, BIG])
    assert len(panels) == 2
    for axes in panels:
        named = {text.get_text(): text.get_window_extent() for text in axes.texts}
        assert {cost.name for cost in costs} < set(named)
        for one, other in itertools.combinations(named, 2):
            assert not named[one].overlaps(named[other]), (one, other)
        assert all(axes.bbox.x0 <= box.x0 <= box.x1 <= axes.bbox.x1 for box in named.values())


def test_the_plot_has_a_point_a_measured_model(monkeypatch):
    points, lines = [], []
    monkeypatch.setattr(Axes, "plot", lambda self, x, y, *a, **k: points.append((x, y)))
    monkeypatch.setattr(Axes, "axvline", lambda self, x, *a, **k: lines.append(x))
    assert plot([BIG, SMALL]).startswith(b"\x89PNG")
    # milliseconds, then megabytes
    assert points == [(pytest.approx(10.0), 0.7204), (pytest.approx(0.704), 0.7204)]
    assert lines == [pytest.approx(50.0), pytest.approx(9.361)]
    with pytest.raises(ConfigError, match="accuracy is known"):
        plot([BIG])

"""The plan of an ablation and its table, on results that nobody trained for."""

import argparse
import csv
import io
import math
from dataclasses import replace

import ablation
import pytest
from ablation_plan import grid_of, plan, variants_of, with_value
from ablation_table import Result, comma_separated, markdown, plot, summarise
from synthetic import tiny_model

from siamkd_core.distill_config import DistillConfig, StudentConfig
from siamkd_core.errors import ConfigError

BASE = DistillConfig(
    teacher="large",
    students=(
        StudentConfig("dull", (2, 4, 4, 4, 2)),
        StudentConfig("intelligent", (4, 4, 8, 8, 4), share=0.5),
    ),
)
RESULTS = [
    Result("label", 0, 1000, 0.50, 0.52, 0.70),
    Result("TS", 0, 1000, 0.55, 0.54, 0.71),
    Result("label", 1, 1000, 0.53, 0.50, 0.72),
    Result("label", 2, 1000, 0.47, 0.51, 0.68),
]
TEACHER = Result("teacher", 0, 2_336_320, 0.60, 0.61, 0.80)


def test_the_designed_variants_hold_what_their_names_say():
    found = variants_of(BASE)
    weights = {}
    for name, config in found.items():
        one = config.losses
        weights[name] = (
            *(one.label, one.teacher_soft, one.adaptive_hard, one.target_response),
            *(one.feature_matching, one.temperature, len(config.students)),
        )
    assert weights == {
        "label": (1, 0, 0, 0, 0, 1, 1),
        "TS": (0, 1, 0, 0, 0, 1, 1),
        "TS+AH": (0, 1, 0.1, 0, 0, 1, 1),
        "TS+STR": (0, 1, 0, 1, 0, 1, 1),
        "TS+AH+STR": (0, 1, 0.1, 1, 0, 1, 1),
        "TS+AH+STR+KS": (0, 1, 0.1, 1, 0, 1, 2),
        "Hinton": (1, 1, 0, 0, 0, 4, 1),
        "FitNet": (1, 0, 0, 0, 1, 1, 1),
    }
    sharing = {name for name, config in found.items() if config.sharing.variant != "none"}
    assert sharing == {"TS+AH+STR+KS"}
    assert all(config.students[0] == BASE.students[0] for config in found.values())
    rest = {"losses", "students", "sharing"}
    for config in found.values():
        same = {k: v for k, v in vars(config).items() if k not in rest}
        assert same == {k: v for k, v in vars(BASE).items() if k not in rest}


def test_a_recipe_without_the_whole_method_is_no_base():
    for losses in (replace(BASE.losses, adaptive_hard=0.0), replace(BASE.losses, teacher_soft=0)):
        with pytest.raises(ConfigError, match="all terms"):
            variants_of(replace(BASE, losses=losses))
    with pytest.raises(ConfigError, match="with sharing"):
        variants_of(replace(BASE, sharing=replace(BASE.sharing, variant="none")))


def test_a_grid_changes_one_factor_at_a_time():
    found = grid_of(BASE, ["losses.temperature=0.5,1.0,2", "students.1.share=0", "lr=1e-3"])
    # 1.0 is the default itself
    assert list(found) == [
        "default",
        "losses.temperature=0.5",
        "losses.temperature=2",
        "students.1.share=0",
        "lr=1e-3",
    ]
    assert found["default"] == BASE
    assert found["losses.temperature=2"] == replace(
        BASE, losses=replace(BASE.losses, temperature=2)
    )
    assert [one.share for one in found["students.1.share=0"].students] == [1.0, 0.0]
    assert found["lr=1e-3"].lr == 0.001


@pytest.mark.parametrize(
    "key, value, says",
    [
        ("losses.heat", 1, "has no losses.heat"),
        ("students.2.share", 1, "has no students.2.share"),
        ("students.first.share", 1, "has no students.first.share"),
        ("seed.deeper", 1, "has no seed.deeper"),
        ("losses.temperature", -1, "temperature must be above 0"),
    ],
)
def test_a_factor_that_does_not_exist_is_refused(key, value, says):
    with pytest.raises(ConfigError, match=says):
        with_value(BASE, key, value)


def test_a_factor_needs_values():
    with pytest.raises(ConfigError, match="KEY=V1,V2"):
        grid_of(BASE, ["losses.temperature"])


def test_all_variants_of_a_seed_come_before_the_next():
    configs = {"a": BASE, "b": replace(BASE, lr=5e-3), "c": BASE}
    runs = plan(configs, (7, 8), only=("c", "a"))
    assert [(run.variant, run.seed) for run in runs] == [("a", 7), ("c", 7), ("a", 8), ("c", 8)]
    assert [run.config.seed for run in runs] == [7, 7, 8, 8]
    assert str(runs[2].folder) == "a/seed8"
    with pytest.raises(ConfigError, match="no variant d; there are: a, b, c"):
        plan(configs, (0,), only=("d",))


def test_mean_and_sample_standard_deviation_golden():
    values = [0.50, 0.53, 0.47]
    summary = summarise(values)
    mean = (0.50 + 0.53 + 0.47) / 3
    assert summary.mean == pytest.approx(mean)
    squares = sum((value - mean) ** 2 for value in values)
    assert summary.deviation == pytest.approx(math.sqrt(squares / 2)) == pytest.approx(0.03)
    assert math.isnan(summarise([0.4]).deviation)


def test_the_table_has_a_row_a_variant():
    text = markdown(RESULTS, TEACHER, ["what ran"])
    assert text.startswith("- what ran\n")
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert rows == [
        "| label | 3 | 0.500 ± 0.030 | 0.510 ± 0.010 | 0.700 ± 0.020 |",
        "| TS | 1 | 0.550 | 0.540 | 0.710 |",
        "| teacher, 2,336,320 parameters | 1 | 0.600 | 0.610 | 0.800 |",
    ]


def test_the_csv_has_a_line_a_run():
    rows = list(csv.DictReader(io.StringIO(comma_separated(RESULTS))))
    assert [(row["variant"], row["seed"]) for row in rows] == [
        (one.variant, str(one.seed)) for one in RESULTS
    ]
    assert rows[3]["auc"] == "0.470000" and rows[0]["parameters"] == "1000"


def test_the_plot_is_a_picture():
    import cv2
    import numpy as np

    image = cv2.imdecode(np.frombuffer(plot(RESULTS, TEACHER), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None and image.std() > 5


def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch):
    (run,) = plan({"TS": variants_of(BASE)["TS"]}, [3])
    sha256 = {}
    trained = []

    def train(config, data, output, *rest):
        trained.append(config.seed)
        path = tiny_model(output, config.seed)
        path.rename(output / "dull.safetensors")
        path.with_suffix(".json").rename(output / "dull.json")
        sha256["now"] = ablation.read_card(output / "dull.safetensors").sha256

    monkeypatch.setattr(ablation, "distill", train)
    monkeypatch.setattr(
        ablation,
        "evaluate",
        lambda args, variant, seed, *_: Result(variant, seed, 9, 0.5, 0.6, 0.7, sha256["now"]),
    )
    args = argparse.Namespace(data="", device="cpu", precision="float32", threads=1)
    first = ablation.make(args, run, tmp_path, [])
    assert ablation.make(args, run, tmp_path, []) == first
    assert first == Result("TS", 3, 9, 0.5, 0.6, 0.7, sha256["now"])
    # what no weight depends on may change
    ablation.make(args, replace(run, config=replace(run.config, workers=0)), tmp_path, [])
    assert trained == [3]
    ablation.make(args, replace(run, config=replace(run.config, lr=5e-3)), tmp_path, [])
    assert trained == [3, 3]
    (tmp_path / "dull.safetensors").unlink()
    (tmp_path / "dull.json").unlink()
    ablation.make(args, run, tmp_path, [])
    assert trained == [3, 3, 3]

"""The plan of an ablation and its table, on results that nobody trained for."""

import argparse
import csv
import hashlib
import io
import math
from dataclasses import replace

import ablation
import pytest
import yaml
from ablation_plan import DESIGNED, Variant, changed, grid_of, plan, variants_of, with_value
from ablation_table import Result, comma_separated, markdown, plot, summarise
from synthetic import tiny_model
from training_support import TRACKS, write_tracks

from siamkd_core.config import to_mapping
from siamkd_core.distill_config import DistillConfig, StudentConfig
from siamkd_core.errors import ConfigError
from siamkd_core.modelfile import build_network, new_card, save_model
from siamkd_core.siamrpn import HeadConfig

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
    for name, variant in found.items():
        one = variant.students[0].losses
        assert one is not None and all(student.losses == one for student in variant.students)
        weights[name] = (
            *(one.label, one.teacher_soft, one.adaptive_hard, one.target_response),
            *(one.feature_matching, one.temperature, len(variant.students)),
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
    for variant in found.values():
        assert variant.rest == BASE
        assert replace(variant.students[0], losses=None) == BASE.students[0]


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
    warm = replace(BASE.losses, temperature=2)
    assert found["losses.temperature=2"].students[0].losses == warm
    assert [one.share for one in found["students.1.share=0"].students] == [1.0, 0.0]
    assert found["lr=1e-3"].rest.lr == 0.001
    # only the rate cannot be tried beside the others
    assert [v.rest == BASE for v in found.values()] == [True, True, True, True, False]


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


def test_the_recipe_may_be_changed_for_all():
    found = changed(BASE, ["epochs=4", "students.0.widths=[4, 4, 8, 8, 4]"])
    assert (found.epochs, found.students[0].widths) == (4, (4, 4, 8, 8, 4))
    assert replace(found, epochs=BASE.epochs, students=BASE.students) == BASE
    with pytest.raises(ConfigError, match="--set epochs: expected KEY=VALUE"):
        changed(BASE, ["epochs"])


def test_a_factor_needs_values():
    with pytest.raises(ConfigError, match="KEY=V1,V2"):
        grid_of(BASE, ["losses.temperature"])


def test_variants_that_differ_in_students_only_share_a_run():
    sharp = replace(BASE.losses, temperature=0.5)
    dull, intelligent = BASE.students
    alone = replace(dull, losses=sharp)
    variants = {
        "TS+KS": Variant(BASE.students, BASE),
        "lr=5e-3": Variant(BASE.students, replace(BASE, lr=5e-3)),
        "tau=0.5": Variant((alone,), BASE),
    }
    runs = plan(variants, (7, 8))
    assert [(run.seed, run.config.seed) for run in runs] == [(7, 7), (7, 7), (8, 8), (8, 8)]
    first, second, *_ = runs
    assert first.judged == {"TS+KS": "ts_ks_dull", "tau=0.5": "tau_0_5_dull"}
    assert second.judged == {"lr=5e-3": "lr_5e_3_dull"}
    assert (first.config.lr, second.config.lr) == (BASE.lr, 5e-3)
    assert first.config.students == (
        replace(dull, name="ts_ks_dull", learns_from=("ts_ks_intelligent",)),
        replace(intelligent, name="ts_ks_intelligent", learns_from=("ts_ks_dull",)),
        replace(alone, name="tau_0_5_dull", share=0.0),
    )
    assert first.config.providers(first.config.students[2]) == ()
    (only,) = plan(variants, (0,), only=("tau=0.5",))
    assert [one.name for one in only.config.students] == ["tau_0_5_dull"]
    with pytest.raises(ConfigError, match=r"no variant d; there are: TS\+KS, lr=5e-3, tau=0\.5"):
        plan(variants, (0,), only=("d",))


def test_a_folder_depends_on_its_own_variants_alone():
    designed = variants_of(BASE)
    assert tuple(designed) == DESIGNED
    factors = ["losses.temperature=2", "lr=1e-3"]
    told = [
        (designed, ()),
        (designed, ("TS",)),
        (designed, ("TS", "label")),
        (grid_of(BASE, factors), ()),
        (grid_of(BASE, factors[:1]), ()),
        (grid_of(BASE, factors), ("lr=1e-3",)),
    ]
    folders = [[str(run.folder) for run in plan(found, [7], only)] for found, only in told]
    assert folders[0] == ["seed7"]
    (single,), (pair,), (shared, rate), (same,), (alone,) = folders[1:]
    assert same == shared and alone == rate
    assert len({"seed7", single, pair, shared, rate}) == 5
    # the hash is the same in every process
    assert single == f"seed7-ts-{hashlib.sha256(b'TS').hexdigest()[:6]}"


def test_names_that_look_alike_stay_apart():
    (run,) = plan(grid_of(BASE, ["losses.margin=-0.01,0.01"]), [0])
    assert len(set(run.judged.values())) == 3
    assert [run.config.students[2 * n].losses.margin for n in range(3)] == [0.005, -0.01, 0.01]


def test_a_student_goes_on_learning_from_those_it_names():
    dull, intelligent = BASE.students
    third = replace(dull, name="third")
    named = replace(dull, learns_from=("intelligent",))
    base = replace(BASE, students=(named, intelligent, third))
    (run,) = plan(variants_of(base), [0], ["TS", "TS+AH+STR+KS"])
    assert {one.name: (one.learns_from, one.share) for one in run.config.students} == {
        "ts_dull": ((), 0.0),
        "ts_ah_str_ks_dull": (("ts_ah_str_ks_intelligent",), 1.0),
        "ts_ah_str_ks_intelligent": (("ts_ah_str_ks_dull", "ts_ah_str_ks_third"), 0.5),
        "ts_ah_str_ks_third": (("ts_ah_str_ks_dull", "ts_ah_str_ks_intelligent"), 1.0),
    }


def test_losses_of_a_students_own_are_refused():
    own = replace(BASE.students[1], losses=replace(BASE.losses, temperature=2.0))
    base = replace(BASE, students=(BASE.students[0], own))
    for make in (variants_of, lambda base: grid_of(base, ["losses.temperature=3"])):
        with pytest.raises(ConfigError, match=r"^intelligent: .* put them under losses"):
            make(base)


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
    found = variants_of(BASE)
    (run,) = plan({name: found[name] for name in ("TS", "label")}, [3])
    trained, evaluated = [], []

    def train(config, data, output, *rest):
        trained.append(config.seed)
        for number, one in enumerate(config.students):
            path = tiny_model(output, config.seed + number)
            path.with_suffix(".json").rename(output / f"{one.name}.json")
            path.rename(output / f"{one.name}.safetensors")

    def judge(args, variant, seed, model, *rest):
        evaluated.append(variant)
        return Result(variant, seed, 9, 0.5, 0.6, 0.7, ablation.read_card(model).sha256)

    monkeypatch.setattr(ablation, "distill", train)
    monkeypatch.setattr(ablation, "evaluate", judge)
    args = argparse.Namespace(data="", device="cpu", precision="float32", threads=1, tracker="")

    def make(run):
        return list(ablation.make(args, run, tmp_path, []))

    first = make(run)
    assert [one.variant for one in first] == ["TS", "label"]
    assert first[0].sha256 != first[1].sha256
    assert make(run) == first
    # what no weight depends on may change
    make(replace(run, config=replace(run.config, workers=0)))
    assert (trained, evaluated) == ([3], ["TS", "label"])
    make(replace(run, config=replace(run.config, lr=5e-3)))
    assert trained == [3, 3]
    # one student's evaluation is lost, then its model
    make(run)
    (tmp_path / "label_dull.result.json").unlink()
    evaluated.clear()
    make(run)
    assert evaluated == ["label"]
    (tmp_path / "label_dull.safetensors").unlink()
    (tmp_path / "label_dull.json").unlink()
    trained.clear()
    make(run)
    assert trained == [3]
    evaluated.clear()
    args.tracker = "window=0.3"  # another evaluation
    make(run)
    assert evaluated == ["TS", "label"]


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(
    "family, calls", [("siamfc", [["TS"], ["TS", "TS+AH+STR+KS"]]), ("siamrpn", [["TS"]])]
)
def test_the_command_trains_tracks_and_tabulates(family, calls, tmp_path, capsys):
    data = write_tracks(tmp_path / "data")
    head = HeadConfig("depthwise", 3) if family == "siamrpn" else None
    card = new_card("teacher", family, (4, 4, 4, 4, 2), head=head)
    teacher = save_model(build_network(card), card, tmp_path)
    config = replace(
        BASE,
        teacher=str(teacher),
        students=tuple(replace(one, head=head) for one in BASE.students),
        pairs=TRACKS,
        epochs=1,
        pairs_per_epoch=4,
        batch_size=2,
        workers=0,
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(to_mapping(config)))
    command = [str(recipe), "--data", str(data), "--sequences-in", str(data)]
    command += ["--sequences", "held", "--output", str(tmp_path / "out"), "--seeds", "0"]
    command += ["--tracker", "window=0.3"]
    command += ["--device", "cpu", "--precision", "float32", "--variants"]
    # other variants than before are no obstacle
    for variants in calls:
        code = ablation.main(command + variants)
        said = capsys.readouterr()
        assert code == 0, said.err
        assert all(f"| {name} | 1 | " in said.out for name in variants)
    rows = list(csv.DictReader((tmp_path / "out" / "ablation.csv").open()))
    assert [row["variant"] for row in rows] == [*calls[-1], "teacher"]
    assert all(0 <= float(row["auc"]) <= 1 for row in rows)
    assert len(list((tmp_path / "out").glob("seed0-ts-*"))) == len(calls)
    # teacher and students were tracked with the parameters given
    tracked = list((tmp_path / "out").rglob("run.json"))
    assert len(tracked) > len(calls)
    assert all('\\"window\\": 0.3' in one.read_text() for one in tracked)
    assert "tracker parameters window=0.3" in (tmp_path / "out" / "ablation.md").read_text()

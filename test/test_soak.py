"""tools/soak.py: a short run with real processes, and its bookkeeping alone."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from soak_ledger import Demand, Ledger
from soak_memory import Sample, judge, write_plot, write_table

ROOT = Path(__file__).parent.parent
BOX = Demand("good", "box 1")
BAD = Demand("bad", "box 2", "ahead")
JUMP = Demand("jump", says="jumped back")


def status(target: str, reason: str) -> dict[str, str]:
    return {"target_id": target, "reason": reason}


def with_target() -> Ledger:
    ledger = Ledger()
    ledger.demand(BOX)
    ledger.status(status("a-1", "target a-1 given"))
    ledger.result("a-1", "box 1")
    return ledger


def test_what_was_asked_for_is_no_fault() -> None:
    ledger = with_target()
    ledger.status(status("a-1", "score 0.20, last seen 0.1 s ago"))
    ledger.demand(BAD)
    ledger.status(status("a-1", "box refused: 60 s ahead of the newest image"))
    ledger.demand(JUMP)
    ledger.status(status("", "the image stamps jumped back"))
    ledger.result("a-1", "box 1")  # still on its way
    ledger.result("", "")
    # the result may overtake the status
    ledger.demand(Demand("good", "box 3"))
    ledger.result("a-2", "box 3")
    ledger.status(status("a-2", "target a-2 given"))
    assert not ledger.waiting and not ledger.faults
    assert ledger.targets == 2 and ledger.done == {"good": 2, "bad": 1, "jump": 1}
    assert (ledger.results, ledger.boxes) == (4, 3)


def test_a_late_box_may_come_too_late_on_a_busy_machine() -> None:
    ledger = with_target()
    ledger.demand(Demand("late", "box 2", may=" old; "))
    ledger.status(status("a-1", "box refused: on a frame 6 s old; the kept frames"))
    assert not ledger.faults and not ledger.waiting
    assert ledger.done["late, refused as the machine was busy"] == 1


@pytest.mark.parametrize(
    ("demand", "said"),
    [
        (None, status("a-2", "target a-2 given")),
        (None, status("", "the image stamps jumped back")),
        (None, status("a-1", "box refused: outside")),
        (BAD, status("a-1", "box refused: outside")),
        (BAD, status("a-2", "target a-2 given")),
        (BAD, status("", "box refused: 60 s ahead")),
        (JUMP, status("", "reset by ~/reset")),
        (Demand("good", "box 5"), status("a-1", "box refused: outside")),
    ],
)
def test_what_nobody_asked_for_is_a_fault(demand: Demand | None, said: dict[str, str]) -> None:
    ledger = with_target()
    if demand:
        ledger.demand(demand)
    ledger.status(said)
    assert len(ledger.faults) == 1


def test_boxes_of_nobody_and_demands_without_effect_are_faults() -> None:
    ledger = with_target()
    ledger.result("a-1", "box 9")
    ledger.result("b-1", "box 1")
    assert len(ledger.faults) == 2
    ledger.demand(JUMP)
    ledger.give_up()
    assert len(ledger.faults) == 3 and "jump" in ledger.faults[-1]


def samples(growth: float, minutes: float = 10.0) -> list[Sample]:
    """500 MB with a warm-up, dips at random, and a growth in MB a minute."""
    chance = np.random.default_rng(0)
    return [
        Sample(
            second,
            500
            - 200 * np.exp(-second / 20)
            + growth * second / 60
            - 100 * (chance.random() < 0.2)
            + chance.normal(0, 2),
            second * 60,
            second * 20,
            "jump; " if second % 50 == 0 else "",
        )
        for second in range(int(60 * minutes))
    ]


def test_flat_memory_with_dips_is_flat_and_a_leak_is_not(tmp_path: Path) -> None:
    flat, leak = judge(samples(0.0)), judge(samples(4.0))
    assert flat.flat and "memory flat" in str(flat)
    assert flat.usual == pytest.approx(504, abs=3)
    assert not leak.flat and "NOT FLAT" in str(leak)
    assert leak.minutes == pytest.approx(8.0, abs=0.1)
    assert leak.growth == pytest.approx(4.0 * 8, abs=4)
    write_table(tmp_path / "s.csv", samples(0.0))
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert len(rows) == 600 and rows[50]["event"] == "jump; "
    write_plot(tmp_path / "s.png", samples(4.0), leak)
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_a_few_seconds_of_everything(tmp_path: Path) -> None:
    support = pytest.importorskip("ros_support", reason="needs ROS 2 (rclpy)")
    model = support.tiny_model(tmp_path)
    command = [sys.executable, str(ROOT / "tools" / "soak.py"), "--minutes", "0.3"]
    command += ["--model", str(model), "--output", str(tmp_path / "out"), "--seed", "3"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=280, env=dict(os.environ), check=False
    )
    # so short a run says nothing about memory
    assert "faults: 0" in done.stdout, done.stdout + done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "soak.csv",
        "soak.png",
        "tracker.log",
    }
    rows = list(csv.DictReader((tmp_path / "out" / "soak.csv").open()))
    assert len(rows) > 3 and float(rows[-1]["resident_mb"]) > 50

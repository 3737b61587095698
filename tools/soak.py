"""Soak test: a real tracker process is given everything that must not harm it, for a long time.

    python tools/soak.py --minutes 30 --output soak

Images at 60 Hz; in random order the camera restarts, its stamps jump back and forth, images are
malformed, boxes are given, good and bad, and the target is reset. Every change of the target must
have been asked for, every box must have its effect, the process must live and its memory stay flat.
The same seed gives the same order. Leaves soak.csv, soak.png and the tracker's log in the folder.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from demo_processes import Child, ProcessDied, Value, isolate
from soak_ledger import Demand, Ledger

ROOT = Path(__file__).resolve().parent.parent
SIZE = (320, 240)
RING = 16
"""Megabytes of images that the tracker keeps. Small, so that the ring is full at any rate that the
machine allows: a ring that fills later would look like a leak."""
PATIENCE = 30.0
"""Seconds in which a demand must show its effect: the processor may be shared with others."""
START_LIMIT = 180.0
PAUSES = (0.5, 3.0)
"""Seconds between two actions."""
JUMPED = "stamps that jumped back"
ENOUGH = 20
"""Malformed images of a kind of which at least one must have arrived; images go best effort."""
ACTIONS = {
    "box": 10,
    "late box": 5,
    "bad box": 8,
    "nonsense": 6,
    "restart": 3,
    "jump": 2,
    "gap": 2,
    "reset": 1,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=60.0, help="images per second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="siamfc", help="shipped name or .safetensors file")
    parser.add_argument("--output", type=Path, default=Path("soak"), help="folder")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    sys.path.insert(0, str(ROOT))
    isolate(ROOT / "config" / "fastdds.xml")
    import rclpy
    from rclpy.signals import SignalHandlerOptions
    from soak_memory import judge, write_plot, write_table

    # Ctrl-C ends the soak, and what was seen until then is reported
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    options: dict[str, Value] = {"model": args.model, "ring_megabytes": RING}
    tracker = Child("tracker", options, args.output)
    soak = Soak(args, tracker)
    try:
        soak.run()
    except (ProcessDied, KeyboardInterrupt) as error:
        soak.ledger.faults.append(f"ended early: {error or 'interrupted'}")
    finally:
        soak.close()
        tracker.stop()
    if not soak.samples:
        print("\n".join(soak.ledger.faults))
        return 1
    verdict = judge(soak.samples)
    write_table(args.output / "soak.csv", soak.samples)
    write_plot(args.output / "soak.png", soak.samples, verdict)
    soak.judge_log(tracker.log.read_text(errors="replace"))
    print(soak.report())
    print(verdict)
    return 0 if verdict.flat and not soak.ledger.faults else 1


class Soak:
    """The camera, the hand that gives boxes, and the eye that watches, in one loop.

    Attributes:
        samples: one a second.
    """

    def __init__(self, args: argparse.Namespace, tracker: Child) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
        from rclpy.executors import SingleThreadedExecutor
        from soak_camera import Camera
        from soak_memory import Sample
        from std_srvs.srv import Trigger
        from vision_msgs.msg import Detection2D, Detection2DArray

        from siamkd_ros.qos import latched

        self.args, self.tracker = args, tracker
        self.ledger = Ledger()
        self.samples: list[Sample] = []
        self.chance = random.Random(args.seed)
        self.camera = Camera(*SIZE)
        self.values: dict[str, str] = {}  # of the tracker's latest /diagnostics
        self._node = node = rclpy.create_node("soak")
        self._boxes = node.create_publisher(Detection2D, "tracker/init", 10)
        self._reset = node.create_client(Trigger, "tracker/reset")
        node.create_subscription(DiagnosticStatus, "tracker/status", self._on_status, latched())
        node.create_subscription(Detection2DArray, "tracker/target", self._on_target, 100)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._given = 0
        self._nonsense = 0  # malformed images still to be sent
        self._silent_until = math.inf  # until the tracker is there
        self._restarted: int | None = None  # number of the restart that is not over yet
        self._results_then: int | None = None  # results when its silence ended
        self._since = 0.0  # when the waiting demand was made
        self._next = 0.0  # when the next action is due
        self._event = ""
        self._published = time.monotonic()

    def run(self) -> None:
        """Until the time is over.

        Raises:
            ProcessDied: the tracker ended.
        """
        begin = time.monotonic()
        while not (self._boxes.get_subscription_count() and self.values):
            self._turn()
            if time.monotonic() - begin > START_LIMIT:
                raise ProcessDied("the tracker did not start")
        begin = time.monotonic()
        self._silent_until, self._next = begin, begin + 2
        while (now := time.monotonic()) - begin < 60 * self.args.minutes:
            if self.ledger.waiting:
                if now - self._since > PATIENCE:
                    self.ledger.give_up()
                self._next = now + self.chance.uniform(*PAUSES)
            elif now > self._next and not self._nonsense and self._is_back(now):
                self._act(now)
                self._next = now + self.chance.uniform(*PAUSES)
            self._turn()
            if now - begin >= len(self.samples):
                self._sample(now - begin)
        end = time.monotonic() + PATIENCE
        while self.ledger.waiting and time.monotonic() < end:
            self._turn()
        self.ledger.give_up()

    def close(self) -> None:
        self.camera.close()
        self._executor.shutdown()
        self._node.destroy_node()

    def judge_log(self, log: str) -> None:
        """Add to the faults what the tracker's log and counters say."""
        if "Traceback" in log:
            self.ledger.faults.append("a traceback in the tracker's log")
        if self.values.get("internal_errors") != "0":
            self.ledger.faults.append(f"internal errors: {self.values.get('internal_errors')}")
        for reason, sent in self.camera.nonsense.items():
            counted = int(self.values.get(f"rejected.{reason}", 0))
            # the first image after a jump might be a fluke, and is refused
            most = sent + (self.ledger.done[JUMPED] if reason == "out_of_order" else 0)
            if counted > most or (counted == 0 and sent >= ENOUGH):
                self.ledger.faults.append(f"{sent} images sent for {reason}, {counted} refused")

    def report(self) -> str:
        """What was done and what came of it, in lines."""
        ledger, camera = self.ledger, self.camera
        minutes = self.samples[-1].seconds / 60
        refused = {name: self.values.get(f"rejected.{name}", "0") for name in camera.nonsense}
        lines = [
            f"{minutes:.1f} minutes, seed {self.args.seed}, model {self.args.model}",
            f"images: {camera.sent} sent ({camera.sent / minutes / 60:.1f} Hz), "
            + ", ".join(f"{self.values.get(k)} {k}" for k in ("received", "overwritten"))
            + f"; {ledger.results} results, {ledger.boxes} with a box",
            "done, with the effect that it must have: "
            + ", ".join(f"{count} {kind}" for kind, count in sorted(ledger.done.items())),
            f"targets: {ledger.targets}, each with an id of its own that was asked for",
            "malformed images, refused of sent: "
            + ", ".join(
                f"{refused[n]} of {sent} {n}" for n, sent in sorted(camera.nonsense.items())
            ),
            f"faults: {len(ledger.faults)}",
            *(f"  {fault}" for fault in ledger.faults[:20]),
        ]
        return "\n".join(lines)

    def _turn(self) -> None:
        """Publish if it is time, and hear what came.

        Raises:
            ProcessDied: the tracker ended.
        """
        self.tracker.check()
        now = time.monotonic()
        period = 1 / self.args.rate
        if now - self._published >= period:
            # what a busy machine is late by is not made up for in a burst
            self._published = max(self._published + period, now - period)
            if now >= self._silent_until:
                if self._nonsense and self.chance.random() < 0.5:
                    self._nonsense -= 1
                    self.camera.publish_nonsense(self.chance)
                else:
                    self.camera.publish()
        self._executor.spin_once(timeout_sec=max(self._published + period - time.monotonic(), 0.0))

    def _is_back(self, now: float) -> bool:
        """Whether results come again after the camera's latest restart."""
        if self._restarted is None:
            return True
        if now > self._silent_until and self._results_then is None:
            self._results_then = self.ledger.results
        if self._results_then is None:
            return False
        # one may have been on its way
        back = self.ledger.results > self._results_then + 1
        if not back and now - self._silent_until > PATIENCE:
            self.ledger.faults.append(f"no results after restart {self._restarted}")
        elif not back:
            return False
        self._restarted = self._results_then = None
        return True

    def _sample(self, seconds: float) -> None:
        from soak_memory import Sample

        received, processed = (int(self.values.get(key, 0)) for key in ("received", "processed"))
        self.samples.append(
            Sample(seconds, self.tracker.resident_megabytes(), received, processed, self._event)
        )
        self._event = ""

    def _act(self, now: float) -> None:
        """Do something at random to the tracker."""
        kind = self.chance.choices(list(ACTIONS), list(ACTIONS.values()))[0]
        self._event += f"{kind}; "
        self._since = now
        if kind == "nonsense":
            self._nonsense = self.chance.randint(1, 30)
            self.ledger.done["bursts of malformed images"] += 1
        elif kind == "restart":
            self.camera.restart()
            self._silent_until = now + self.chance.uniform(0.0, 3.0)
            self.ledger.done["restarts of the camera"] += 1
            self._restarted = self.ledger.done["restarts of the camera"]
        elif kind == "jump":
            self.ledger.demand(Demand(JUMPED, says="jumped back"))
            self.camera.jump(-self.chance.uniform(2.0, 3600.0))
        elif kind == "gap":
            # never ahead of the clock: what is in the future counts as another fault
            gap = self.chance.uniform(0.0, -self.camera.behind)
            self.camera.jump(gap)
            self.ledger.done["stamps that jumped ahead"] += gap > 1
        elif kind == "reset":
            from std_srvs.srv import Trigger

            self.ledger.demand(Demand("resets", says="reset by"))
            self._reset.call_async(Trigger.Request())
        else:
            self._give(kind)

    def _give(self, kind: str) -> None:
        from soak_boxes import make_box

        if not self.camera.shown:
            return
        self._given += 1
        shown = list(self.camera.shown)
        demand, message = make_box(kind, f"box {self._given}", shown, SIZE, self.chance)
        self.ledger.demand(demand)
        self._boxes.publish(message)

    def _on_status(self, message: Any) -> None:
        self.ledger.status({pair.key: pair.value for pair in message.values})

    def _on_target(self, message: Any) -> None:
        detection = message.detections[0] if message.detections else None
        label = detection.results[0].hypothesis.class_id if detection else ""
        self.ledger.result(detection.id if detection else "", label)

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            self.values.update({pair.key: pair.value for pair in status.values})


if __name__ == "__main__":
    sys.exit(main())

"""The four tasks of /diagnostics: camera, tracker, timing, device. Numbers to words, no ROS."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from siamkd_core.presence import State
from siamkd_ros.statistics import Snapshot, Spread

MAX_MISS_SHARE = 0.05


class Level(IntEnum):
    """The levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True)
class Task:
    """One DiagnosticStatus: `name` comes after the node's, `values` are its key-value pairs."""

    name: str
    level: Level
    message: str
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """The tracking state for `~/status` and the task *tracker*.

    Attributes:
        reason: why the state is what it is, or why a box was refused.
        since: ROS time of the last change of state, seconds.
        target: id of the target; empty in idle.
        box_id: of the message whose box that is, or which the reason refuses: its sender knows the
            answer by it.
        score: of the latest processed frame, 0 to 1.
        unseen: seconds of video since the target was last seen.
    """

    state: State
    reason: str
    since: float = 0.0
    target: str = ""
    box_id: str = ""
    score: float = 0.0
    unseen: float = 0.0


STATE_LEVEL = {
    State.IDLE: Level.OK,
    State.TRACKING: Level.OK,
    State.UNCERTAIN: Level.WARN,
    State.LOST: Level.WARN,
}


def status_task(report: Report, model: str) -> Task:
    """The message of `~/status`."""
    return Task(
        "target",
        STATE_LEVEL[report.state],
        f"{report.state.value}: {report.reason}",
        {
            "state": report.state.value,
            "reason": report.reason,
            "model": model,
            "since": f"{report.since:.3f}",
            "target_id": report.target,
            "box_id": report.box_id,
            "score": f"{report.score:.3f}",
        },
    )


def camera_task(snapshot: Snapshot, silent_for: float, timeout: float, offers: str) -> Task:
    """Task *camera*.

    Args:
        silent_for: seconds since an image arrived; infinite if none ever did.
        timeout: seconds from which on that is an error, and the same picture a warning.
        offers: who publishes on the topic, in words; shown when nothing arrives.
    """
    new = sum(snapshot.new_rejects.values())
    worst = max(snapshot.new_rejects, key=lambda k: snapshot.new_rejects[k]) if new else ""
    if silent_for > timeout:
        ever = "yet" if silent_for == float("inf") else f"for {silent_for:.1f} s"
        level, message = Level.ERROR, f"no image {ever}; {offers}"
    elif snapshot.frozen > timeout:
        level, message = Level.WARN, frozen_picture(snapshot.frozen)
    elif new:
        level, message = Level.WARN, f"{new} refused in the last second, most for {worst}"
    else:
        level, message = Level.OK, f"{snapshot.rate:.1f} Hz"
    values = {
        "rate_hz": f"{snapshot.rate:.2f}",
        "received": str(snapshot.received),
        "gaps": str(snapshot.gaps),
        "missing_percent": f"{100 * snapshot.missing:.1f}",
        "image_bytes": str(snapshot.image_bytes),
        "unstamped": str(snapshot.unstamped),
        "stamped_in_future": str(snapshot.future),
        "same_picture_s": f"{snapshot.frozen:.1f}",
        "rejected": str(sum(snapshot.rejects.values())),
    }
    if snapshot.age:
        values |= _spread_values("age_ms", snapshot.age)
    values |= {f"rejected.{reason}": str(n) for reason, n in sorted(snapshot.rejects.items())}
    return Task("camera", level, message, values)


def frozen_picture(seconds: float) -> str:
    """That the camera sends one picture for so long."""
    return f"the same picture for {seconds:.1f} s: a camera that hangs, or a paused simulation?"


def tracker_task(
    report: Report,
    snapshot: Snapshot,
    *,
    lifecycle: str,
    enabled: bool,
    bearing: str | None,
) -> Task:
    """Task *tracker*.

    Args:
        lifecycle: unconfigured, inactive, active or finalized.
        bearing: why there is no ray; empty if there is one, None if none is published.
    """
    level, message = STATE_LEVEL[report.state], f"{report.state.value}: {report.reason}"
    if snapshot.new_errors:
        level = Level.WARN
        message += f"; {snapshot.new_errors} unexpected errors in the last second, see the log"
    return Task(
        "tracker",
        level,
        message,
        {
            "state": report.state.value,
            "reason": report.reason,
            "lifecycle": lifecycle,
            "enabled": str(enabled).lower(),
            "target_id": report.target,
            "score": f"{report.score:.3f}",
            "since": f"{report.since:.3f}",
            "unseen_s": f"{report.unseen:.2f}",
            "catch_ups": str(snapshot.catch_ups),
            "internal_errors": str(snapshot.errors),
            **({} if bearing is None else {"bearing": bearing or "valid"}),
        },
    )


def timing_task(snapshot: Snapshot, deadline: float) -> Task:
    """Task *timing*: every stage, and the latency from image stamp to published box."""
    latency = snapshot.stages.get("latency")
    late = snapshot.late > MAX_MISS_SHARE
    message = "no frame processed yet"
    if latency:
        message = f"latency p50 {1e3 * latency.p50:.1f} ms, p95 {1e3 * latency.p95:.1f} ms"
        if late:
            message += f"; {100 * snapshot.late:.0f} % of the frames over {1e3 * deadline:.0f} ms"
    values = {
        "processed": str(snapshot.processed),
        "processed_hz": f"{snapshot.processed_rate:.2f}",
        "overwritten": str(snapshot.overwritten),
        "deadline_misses": str(snapshot.misses),
    }
    for stage, spread in snapshot.stages.items():
        values |= _spread_values(f"{stage}_ms", spread)
    return Task("timing", Level.WARN if late else Level.OK, message, values)


@dataclass(frozen=True)
class Device:
    """The loaded model, in words.

    Attributes:
        described: model, sha256, backend, device and precision.
        took: how long loading and warming up took.
        warning: what is not as it was asked for; empty if nothing.
        megabytes: memory in use on all GPUs; None on a CPU.
    """

    described: Mapping[str, str]
    took: str
    warning: str
    megabytes: float | None


def device_task(device: Device | None) -> Task:
    """Task *device*; None is no model loaded."""
    values = {"memory_mb": f"{resident_megabytes():.0f}"}
    if device is None:
        return Task("device", Level.OK, "no model is loaded", values)
    values |= {**device.described, "start_up": device.took}
    if device.megabytes is not None:
        values["device_memory_mb"] = f"{device.megabytes:.0f}"
    if device.warning:
        return Task("device", Level.WARN, device.warning, values)
    message = f"{device.described['model']} on {device.described['device']}"
    return Task("device", Level.OK, message, values)


def resident_megabytes() -> float:
    """Memory of this process, MB: the present one on Linux, elsewhere the peak."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1e6
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def _spread_values(name: str, spread: Spread) -> dict[str, str]:
    return {
        f"{name}.p50": f"{1e3 * spread.p50:.2f}",
        f"{name}.p95": f"{1e3 * spread.p95:.2f}",
        f"{name}.max": f"{1e3 * spread.maximum:.2f}",
    }

"""The latency measurement's report, as markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from latency_run import Run, median_p99

from siamkd_ros.statistics import STAGES


def report(command: str, transport: str, pairs: Sequence[tuple[Run, Run]]) -> str:
    """The markdown.

    Args:
        command: that made it.
        transport: in words.
        pairs: bare subscriber and tracker, of the same camera process.
    """
    device = pairs[0][1].device
    lines = [
        "# Latency from image stamp to box",
        "",
        f"`{command}`",
        "",
        f"{machine()}; Python {platform.python_version()}, {middleware()}, {transport}.",
        f"Model {device.get('model')} on {device.get('device')}, {device.get('precision')}, "
        f"{device.get('backend')}. Camera, follower and receiver are separate processes; images go "
        "reliable to best effort (the node's sensor-data subscription). *Bare* is a subscriber in "
        "the tracker's place that publishes an empty Detection2DArray per image. *Beyond the "
        "network* is each frame's latency less the time that this frame spent in the network "
        "(stages model and verify); the ratio is that over bare.",
        "",
        "| images | bare, median / p99 ms | tracker | beyond the network | ratio, median / p99 "
        "| with a result: bare, tracker |",
        "|---|---|---|---|---|---|",
    ]
    for bare, tracker in pairs:
        figures = [median_p99(one) for one in (bare.latencies, tracker.latencies, tracker.beyond)]
        ratios = [beyond / alone for beyond, alone in zip(figures[2], figures[0], strict=True)]
        cells = [f"{median:.1f} / {p99:.1f}" for median, p99 in figures]
        cells += [f"{ratios[0]:.1f} / {ratios[1]:.1f}"]
        cells += [f"{100 * bare.share:.0f} %, {100 * tracker.share:.0f} %"]
        lines.append(f"| {_images(bare)} | {' | '.join(cells)} |")
    lines += [
        "",
        "The node's own diagnostics, p50 / p95 in ms of its last 300 frames:",
        "",
        f"| images | {' | '.join(STAGES)} | overwritten | page faults an image |",
        f"|---|{'---|' * len(STAGES)}---|---|",
    ]
    for _, tracker in pairs:
        t = tracker.timing
        cells = [f"{t.get(f'{s}_ms.p50')} / {t.get(f'{s}_ms.p95')}" for s in STAGES]
        lines.append(
            f"| {_images(tracker)} | {' | '.join(cells)} | {t.get('overwritten')} "
            f"| {tracker.faults_per_image:.0f} |"
        )
    faults = sum(run.out_of_order + run.restamped for pair in pairs for run in pair)
    results = sum(len(run.results) for pair in pairs for run in pair)
    found = [f"{tracker.found} of {len(tracker.results)}" for _, tracker in pairs]
    lines += [
        "",
        f"Out of order or under a stamp that no image had: {faults} of {results} results. "
        f"Results with the target in them: {', '.join(found)}.",
        "",
    ]
    return "\n".join(lines)


def machine() -> str:
    """Processor, number of cores, and the load while measuring."""
    model = platform.processor() or platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text()
        model = next(
            (
                line.partition(":")[2].strip()
                for line in text.splitlines()
                if line.startswith("model name")
            ),
            model,
        )
    except OSError:
        pass  # not Linux
    return f"{model}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"


def middleware() -> str:
    """The ROS middleware and rclpy's version, where they can be told."""
    from rclpy.utilities import get_rmw_implementation_identifier

    try:
        rclpy_version = f"rclpy {version('ros-rclpy')}"
    except PackageNotFoundError:
        rclpy_version = f"ROS {os.environ.get('ROS_DISTRO', '?')}"
    return f"{rclpy_version}, {get_rmw_implementation_identifier()}"


def _images(run: Run) -> str:
    return f"{run.size[0]}x{run.size[1]}, {run.rate:g} Hz"

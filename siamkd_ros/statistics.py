"""What the node counts and times, from both threads; `diagnostics` makes words of it."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

STAGES = ("wait", "decode", "crop", "model", "post", "verify", "publish", "latency", "adapt")
# Ten seconds of a 30 Hz camera: long enough for a p95, short enough to show the present.
WINDOW = 300
# An interval this many times the usual one is a gap.
GAP = 1.5
# Seconds from which on an interval is a camera that stood still, not images lost on the way.
PAUSE = 1.0
# So many intervals that agree with each other, and not with the usual one, are another rate.
NEW_RATE = 8


class Spread(NamedTuple):
    """Median, 95th percentile and maximum, in seconds."""

    p50: float
    p95: float
    maximum: float


@dataclass(frozen=True)
class Snapshot:
    """The state of the counters at one moment.

    Attributes:
        received: images that passed the checks, since start; `processed` those that were used,
            `overwritten` those that a newer one replaced before their turn.
        rejects: refused images and boxes by reason, since start.
        new_rejects: the same since the snapshot before.
        gaps: intervals between image stamps that were too long, since start.
        missing: least share of the window's images that did not arrive, judged by how irregular
            the stamps are.
        rate, processed_rate: Hz, since the snapshot before.
        interval: usual time between image stamps, seconds; None with too few images.
        frozen: seconds for which the same picture has come again and again; 0 if the latest is new.
        age: seconds from an image's stamp to its arrival.
        image_bytes: size of the latest image.
        stages: spread per stage; only stages with samples.
        latency_samples, misses: processed frames with a usable stamp, and those over the deadline,
            since start; `late` is the share of misses in the window.
        unstamped, future: images with stamp 0, or ahead of our clock: no latency for these.
        errors: unexpected ones since start, `new_errors` since the snapshot before.
    """

    received: int
    processed: int
    overwritten: int
    rejects: Mapping[str, int]
    new_rejects: Mapping[str, int]
    gaps: int
    missing: float
    rate: float
    processed_rate: float
    interval: float | None
    frozen: float
    age: Spread | None
    image_bytes: int
    last_arrival: float | None
    stages: Mapping[str, Spread]
    latency_samples: int
    misses: int
    late: float
    unstamped: int
    future: int
    errors: int
    new_errors: int
    catch_ups: int


class Statistics:
    """Counters since start and windows of the latest samples. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._rejects: Counter[str] = Counter()
        self._reported_rejects: Counter[str] = Counter()
        self._reported: tuple[float, Counter[str]] | None = None
        self._image_bytes = 0
        self._last_arrival: float | None = None
        self.clear_windows()

    def clear_windows(self) -> None:
        """Forget the samples, not the counters: the stream has changed."""
        with self._lock:
            self._windows = {stage: deque[float](maxlen=WINDOW) for stage in STAGES}
            self._intervals = deque[float](maxlen=WINDOW)
            self._ages = deque[float](maxlen=WINDOW)
            self._late = deque[bool](maxlen=WINDOW)
            self._last_stamp = 0.0
            self._usual: float | None = None
            # arrival of the first image of the present picture
            self._changed_at: float | None = None

    def received(
        self, stamp: float, arrival: float, now: float, size: int, same: bool = False
    ) -> None:
        """Count an image that passed the checks.

        Args:
            stamp, now: the image's and our ROS clock, seconds; stamp 0 is none.
            arrival: steady clock, seconds.
            size: bytes.
            same: its picture is that of the image before.
        """
        with self._lock:
            self._counts["received"] += 1
            self._last_arrival, self._image_bytes = arrival, size
            if not same or self._changed_at is None:
                self._changed_at = arrival
            if stamp == 0:
                self._counts["unstamped"] += 1
                return
            if stamp > now:
                self._counts["future"] += 1
            else:
                self._ages.append(now - stamp)
            interval = stamp - self._last_stamp
            if self._last_stamp and interval > 0:
                if self._usual is not None and interval > GAP * self._usual:
                    self._counts["gaps"] += 1
                if interval < PAUSE:
                    self._intervals.append(interval)
                    self._notice_new_rate()
            self._last_stamp = stamp

    def _notice_new_rate(self) -> None:
        """The camera changed its rate: intervals of the old one would look like lost images."""
        recent = list(self._intervals)[-NEW_RATE:]
        if self._usual is None or len(recent) < NEW_RATE or max(recent) > GAP * min(recent):
            return
        if min(recent) > GAP * self._usual or GAP * max(recent) < self._usual:
            self._intervals.clear()
            self._intervals.extend(recent)
            self._usual = _usual_interval(recent)

    def count(self, name: str) -> None:
        """Count `overwritten`, `processed`, `errors` or `catch_ups`."""
        with self._lock:
            self._counts[name] += 1

    def reject(self, reason: str) -> None:
        with self._lock:
            self._rejects[reason] += 1

    def timed(self, seconds: Mapping[str, float]) -> None:
        """Add the stages of one frame."""
        with self._lock:
            for stage, value in seconds.items():
                self._windows[stage].append(value)

    def latency(self, seconds: float, deadline: float) -> None:
        """Add one frame's latency from stamp to published box; negative ones are not counted."""
        if seconds < 0:
            return
        with self._lock:
            self._windows["latency"].append(seconds)
            self._counts["latency_samples"] += 1
            self._counts["misses"] += seconds > deadline
            self._late.append(seconds > deadline)

    def snapshot(self, now: float) -> Snapshot:
        """Everything at once; rates and new rejects are since the call before.

        Args:
            now: steady clock, seconds.
        """
        with self._lock:
            counts, rejects = self._counts.copy(), self._rejects.copy()
            stages = {name: list(window) for name, window in self._windows.items() if window}
            ages, intervals, late = list(self._ages), list(self._intervals), list(self._late)
            image_bytes, last_arrival = self._image_bytes, self._last_arrival
            changed_at = self._changed_at
            self._usual = usual = _usual_interval(intervals)
        frozen = 0.0
        if last_arrival is not None and changed_at is not None:
            frozen = last_arrival - changed_at
        since, before = self._reported or (now, Counter[str]())
        elapsed = now - since
        fresh = rejects - self._reported_rejects
        self._reported = (now, counts)
        self._reported_rejects = rejects
        return Snapshot(
            received=counts["received"],
            processed=counts["processed"],
            overwritten=counts["overwritten"],
            rejects=dict(rejects),
            new_rejects=dict(fresh),
            gaps=counts["gaps"],
            missing=_missing(intervals, usual),
            rate=(counts["received"] - before["received"]) / elapsed if elapsed > 0 else 0.0,
            processed_rate=(counts["processed"] - before["processed"]) / elapsed
            if elapsed > 0
            else 0.0,
            interval=usual,
            frozen=frozen,
            age=spread(ages) if ages else None,
            image_bytes=image_bytes,
            last_arrival=last_arrival,
            stages={name: spread(values) for name, values in stages.items()},
            latency_samples=counts["latency_samples"],
            misses=counts["misses"],
            late=sum(late) / len(late) if late else 0.0,
            unstamped=counts["unstamped"],
            future=counts["future"],
            errors=counts["errors"],
            new_errors=counts["errors"] - before["errors"],
            catch_ups=counts["catch_ups"],
        )


def spread(values: list[float]) -> Spread:
    """Median, 95th percentile (linear interpolation) and maximum of at least one value."""
    p50, p95 = np.percentile(values, (50, 95))
    return Spread(float(p50), float(p95), max(values))


def _usual_interval(intervals: list[float]) -> float | None:
    """The camera's own interval. Lost images only make intervals longer, so it is a low quantile
    and not the median."""
    return float(np.percentile(intervals, 20)) if len(intervals) >= 5 else None


def _missing(intervals: list[float], usual: float | None) -> float:
    if not usual:
        return 0.0
    lost = sum(max(0, round(interval / usual) - 1) for interval in intervals)
    # Jitter, too, makes intervals that look like multiples of a short one. But images lost at
    # random with probability p leave geometric intervals, whose variance over squared mean is p.
    scatter = float(np.var(intervals) / np.mean(intervals) ** 2)
    return min(lost / (lost + len(intervals)), scatter)

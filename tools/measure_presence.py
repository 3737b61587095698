"""Does a tracker notice that its target has gone, and find it again? Models side by side.

    python tools/measure_presence.py FOLDER --model siamfc dstrpn_large --output presence
        [--sequences NAME ...] [--rate 30] [--frames 300] [--gone 90] [--thresholds 0.5 0.7 0.8]

Plays each sequence of FOLDER, forth and back until FRAMES frames are over, and takes the target
away for GONE of them, from a third on: it is covered with what lies beside it, frame by frame. The
long-term tracker of the node follows, with the node's default thresholds or others; no box is
reported while it says "lost". Writes OUTPUT.md and OUTPUT.png, the score over time. A sequence
whose target fills too much of a frame to be covered is left out, and named.

Precision, recall and F are those of VOT-LT (Lukezic et al. 2018), but at the tracker's own
threshold, not at the best one: Pr is the mean IoU of the frames with a reported box (0 where the
target is not there; 1 where no box is reported at all), Re that of the frames with a target (0
where no box is reported), each the mean over the sequences, F the harmonic mean of the two. A
target is noticed to have gone if there was a box in the frame before, and none in one of those
without it; it is found again in the first frame after that with an IoU of 0.5.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from rich.progress import track as with_progress

from siamkd_core.box import Box, iou, present
from siamkd_core.errors import SiamkdError
from siamkd_core.evaluate import choose_sequences
from siamkd_core.image import Image, read_image
from siamkd_core.longterm import LongTermTracker
from siamkd_core.modelfile import tell_apart
from siamkd_core.presence import PresenceConfig, State
from siamkd_core.sequences import Sequence, read_sequences
from siamkd_core.tracker import load_tracker
from siamkd_core.vanish import without_target

FOUND = 0.5
"""IoU from which a target that came back is found."""


@dataclass(frozen=True)
class Played:
    """What a tracker said over one sequence, frame by frame from the second on.

    Attributes:
        truth: (N, 4) float64, nan while the target is not there.
        boxes: (N, 4) float64, nan while none is reported.
        scores: (N,) float64.
        gone: first frame without the target, and the first with it again.
    """

    truth: NDArray[np.float64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    gone: tuple[int, int]

    @property
    def overlap(self) -> NDArray[np.float64]:
        """(N,) IoU, 0 where there is no box or no target."""
        return np.nan_to_num(iou(self.boxes, self.truth), nan=0.0)

    @property
    def noticed_after(self) -> int | None:
        """Frames from the target's leaving to the first without a box; None: it was not noticed, or
        there was none in the frame before."""
        reported = present(self.boxes)
        start, stop = self.gone
        return _first(~reported[start:stop]) if reported[start - 1] else None

    @property
    def back_after(self) -> int | None:
        """Frames from the target's return until it is reported; None: it was not found again."""
        return _first(self.overlap[self.gone[1] :] >= FOUND)


def _first(flags: NDArray[np.bool_]) -> int | None:
    return int(np.argmax(flags)) if flags.any() else None


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Targets that go and come back.")
    parser.add_argument("folder", help="of sequence folders, each img/ + groundtruth.txt")
    parser.add_argument("--model", nargs="+", required=True, help="shipped names or .safetensors")
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--rate", type=float, default=30.0, help="images a second")
    parser.add_argument("--frames", type=int, default=300, help="that each sequence is played for")
    parser.add_argument("--gone", type=int, default=90, help="frames without the target")
    parser.add_argument(
        "--thresholds",
        nargs=3,
        type=float,
        metavar=("UNCERTAIN", "TRACKING", "RECOVER"),
        help="on the score, in place of the node's defaults",
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--output", required=True, help="table and plot, without their endings")
    args = parser.parse_args(argv)
    try:
        first = args.frames // 3
        if not (args.rate > 0 and args.gone > 0 and 2 <= first < args.frames - args.gone):
            raise SiamkdError(
                "--rate and --gone must be above 0, --frames at least 6, and a third of it and "
                "--gone must leave frames for the target's return"
            )
        config = PresenceConfig(*(args.thresholds or ()))
        models = dict(zip(tell_apart(args.model), args.model, strict=True))
        if len(models) < len(args.model):
            raise SiamkdError("a model is named twice")
        sequences = choose_sequences(read_sequences(args.folder), args.sequences)
        usable = [one for one in sequences if playable(one, args.frames, args.gone)]
        if not usable:
            raise SiamkdError(f"no target of {args.folder} can be covered")
        left_out = [one.name for one in sequences if one not in usable]
        played = {}
        for name, model in models.items():
            tracker = load_tracker(model, args.device, args.precision)
            played[name] = [
                play(
                    LongTermTracker(tracker, config),
                    one,
                    args.frames,
                    args.gone,
                    1 / args.rate,
                )
                for one in with_progress(usable, f"play {name}")
            ]
    except SiamkdError as error:
        print(f"measure_presence: {error}", file=sys.stderr)
        return 2
    command = shlex.join(["python", "tools/measure_presence.py", *(argv or sys.argv[1:])])
    text = table(played, args.rate)
    notes = f"\n{len(usable)} targets; left out: {', '.join(left_out) or 'none'}. `{command}`\n"
    output = Path(args.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".md").write_text(text + notes, encoding="utf-8")
    draw(played, [one.name for one in usable], args.rate, output.with_suffix(".png"))
    print(text + notes)
    return 0


def order(length: int, frames: int) -> list[int]:
    """``frames`` numbers of a sequence of ``length`` frames: forth, back, forth again ..."""
    there_and_back = [*range(length), *range(length - 2, 0, -1)]
    return [there_and_back[number % len(there_and_back)] for number in range(frames)]


def shown(sequence: Sequence, frame: int, covered: bool) -> tuple[Image | None, Box | None]:
    """What is shown of a frame, and where its target is; no image where it cannot be covered."""
    image, here = read_image(sequence.frames[frame]), sequence.boxes[frame]
    if not present(here[None])[0]:
        return image, None
    box = Box(*here.tolist())
    if not covered:
        return image, box
    # the same piece each time, as far as the frames have the same room
    return without_target(image, box, np.random.default_rng(0)), None


def playable(sequence: Sequence, frames: int, gone: int) -> bool:
    """Whether it begins with its target, and the target can be covered wherever it must be."""
    if len(sequence.frames) < 2 or not present(sequence.boxes[:1])[0]:
        return False
    numbers = order(len(sequence.frames), frames)[frames // 3 : frames // 3 + gone]
    return all(shown(sequence, frame, True)[0] is not None for frame in set(numbers))


def play(
    tracker: LongTermTracker, sequence: Sequence, frames: int, gone: int, elapsed: float
) -> Played:
    """Show a :func:`playable` sequence to a tracker.

    Args:
        elapsed: seconds between two frames.
    """
    truth, boxes, scores = [], [], []
    nothing = (np.nan,) * 4
    start = frames // 3
    for number, frame in enumerate(order(len(sequence.frames), frames)):
        image, box = shown(sequence, frame, start <= number < start + gone)
        assert image is not None
        if number == 0:
            assert box is not None
            tracker.init(image, box)
            continue
        track = tracker.find(image, elapsed)
        tracker.learn()
        truth.append(tuple(box) if box else nothing)
        boxes.append(nothing if tracker.state is State.LOST else tuple(track.box))
        scores.append(track.score)
    # nothing is said of the first frame
    gap = (start - 1, start - 1 + gone)
    return Played(np.array(truth), np.array(boxes), np.array(scores), gap)


def accuracy(played: list[Played]) -> tuple[float, float, float]:
    """Precision and recall, the means over the sequences, and F."""
    measures = []
    for one in played:
        reported, there = present(one.boxes), present(one.truth)
        precision = one.overlap[reported].mean() if reported.any() else 1.0
        measures.append((precision, one.overlap[there].mean()))
    pr, re = np.mean(measures, axis=0).tolist()
    return pr, re, 2 * pr * re / (pr + re) if pr + re else 0.0


def table(played: dict[str, list[Played]], rate: float) -> str:
    """One row a model, Markdown."""
    lines = [
        "| model | F | precision | recall | noticed | after | found again | after "
        "| no box before it goes |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, runs in played.items():
        pr, re, f = accuracy(runs)
        noticed = [one.noticed_after for one in runs if one.noticed_after is not None]
        back = [one.back_after for one in runs if one.back_after is not None]
        silent = np.mean([_silent(one) for one in runs])
        cells = [
            *(f"{value:.3f}" for value in (f, pr, re)),
            f"{len(noticed)} of {len(runs)}",
            _seconds(noticed, rate),
            f"{len(back)} of {len(runs)}",
            _seconds(back, rate),
            f"{silent:.1%}",
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _silent(one: Played) -> float:
    """Share of the frames before the target goes that no box is reported in."""
    return float((~present(one.boxes[: one.gone[0]])).mean())


def _seconds(frames: list[int], rate: float) -> str:
    return f"{np.median(frames) / rate:.2f} s" if frames else "-"


def draw(played: dict[str, list[Played]], names: list[str], rate: float, path: Path) -> None:
    """The score over time, a panel a sequence; grey: the target is not there."""
    columns = 3
    rows = -(-len(names) // columns)
    figure = plt.figure(figsize=(13, 1.9 * rows + 0.6), dpi=100, layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns, sharey=True, squeeze=False)).ravel()
    for which, name in enumerate(names):
        axes = panels[which]
        for model, runs in played.items():
            one = runs[which]
            seconds = np.arange(1, len(one.scores) + 1) / rate
            (line,) = axes.plot(seconds, one.scores, linewidth=0.8, label=model)
            lost = ~present(one.boxes)
            # a bar at the bottom of the panel, a row a model
            level = -0.05 - 0.06 * list(played).index(model)
            shown = np.where(lost, level, np.nan)
            axes.plot(seconds, shown, color=line.get_color(), linewidth=3)
        start, stop = played[next(iter(played))][which].gone
        axes.axvspan((start + 1) / rate, (stop + 1) / rate, color="0.85")
        axes.set_title(name, fontsize=9)
        axes.set_ylim(-0.1 - 0.06 * len(played), 1.05)
    for axes in panels[len(names) :]:
        axes.axis("off")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    figure.supxlabel("seconds (grey: the target is covered; bars below 0: no box is reported)")
    figure.supylabel("score")
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())

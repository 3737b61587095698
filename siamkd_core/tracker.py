"""The tracker: give it a box once, then image after image."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from siamkd_core.backend import Backend, TorchBackend
from siamkd_core.backends import make_backend
from siamkd_core.box import Box, check_target_box
from siamkd_core.crop import exemplar_side
from siamkd_core.device import set_threads
from siamkd_core.device_pipeline import DevicePipeline
from siamkd_core.errors import SiamkdError
from siamkd_core.image import Image, check_image
from siamkd_core.modelfile import ModelCard, check_backbone_takes, load_model
from siamkd_core.network import SiameseNetwork
from siamkd_core.pipeline import HostPipeline, Look, Pipeline, Sought
from siamkd_core.pose import Pose
from siamkd_core.search import Found, Sides
from siamkd_core.siamfc import EXEMPLAR_SIZE

MOST = 3.0
"""By which a width or height that the network sees is corrected, or by its inverse, at most."""
TURN_GAIN = 0.2
"""By which the score of a turned look is higher where the target is taken to have turned: two looks
more are two chances more that something else scores high."""
APART = 0.3
"""Of the target's size, the root of its area: a look less away from where it was last seen for sure
has seen that place too."""


@dataclass(frozen=True)
class Track:
    """What one image said about the target.

    Attributes:
        box: x, y, w, h in pixels of the image; may reach over its border. Of a turned target, the
            extent of the turned ellipse that its upright box holds.
        score: probability in [0, 1] that the target is in that box, as if there had been one look;
            see :data:`TURN_GAIN`. The best of several looks may have it by chance.
        value: response logit at the chosen place; the score is the calibration of it and of the
            likeness.
        peak: highest response logit, as the network gave it.
        seconds: time spent per stage, over all looks: ``crop``, ``model``, ``post``, ``verify``
            (the score's second look, at what is in the box), and, of an update, ``adapt`` (bringing
            the exemplar up to date); their sum is the time of the call. On a GPU, ``model``,
            ``post`` and ``verify`` are its own clock's (but for a second look that had to be taken
            again), and ``crop`` is all the rest until the box was known: the upload, the crops, and
            what the GPU still had to do for the frame before. ``adapt`` only starts that work
            there: it goes on while the next image is awaited.
        likeness: of what is in that box to what was in the first, see
            :func:`siamkd_core.likeness.likeness`; nan where the calibration does not ask for it.
            Where the score decided to keep the size of before (``size_score``), of what was in the
            box that it would have been.
        turned: degrees, -180 to 180, by which the target is turned in the image against the one
            that it was given in, from x towards y (clockwise as seen), in steps of ``turn`` of
            :class:`siamkd_core.tracker_config.SearchConfig`; 0 without that.
        upright: box of the target turned back about its centre; None where it is ``box``.
    """

    box: Box
    score: float
    value: float
    peak: float
    seconds: Mapping[str, float]
    likeness: float = math.nan
    turned: float = 0.0
    upright: Box | None = None

    @property
    def pose(self) -> tuple[Box, float]:
        """The upright box, and degrees: what :meth:`Tracker.move_to` takes to come back here."""
        return self.upright or self.box, self.turned


@dataclass
class _Target:
    first: Any  # features of the first box
    recent: Any  # their running mean over the frames since
    exemplar: Any  # what is searched for: a blend of the two
    pose: Pose
    sure: Pose  # of the last frame whose score was not below revisit_score
    shape: Sides  # first width and height, pixels of the exemplar's crop
    correction: Sides = (1.0, 1.0)  # of the widths and heights that are seen


class _Sight(NamedTuple):
    """What a look found, its score, and what makes an exemplar of what is there."""

    pose: Pose
    found: Found
    alike: float | None
    score: float
    embed: Callable[[], Any]


class Tracker:
    """Follows one target with a Siamese network of any family.

    Two trackers share no state, even on one backend. An error in :meth:`init` or :meth:`find`
    leaves the target as it was, and one in :meth:`learn` its exemplar.

    Args:
        backend: runs the network.
        card: of the model, for its family, the tracker's parameters and the score's calibration.
        pipeline: takes images to the backend; None: the one that suits its device.

    Raises:
        ConfigError: a search region that the backbone does not take.
    """

    def __init__(self, backend: Backend, card: ModelCard, pipeline: Pipeline | None = None) -> None:
        # a graph has lost the backbone's own check
        check_backbone_takes(card, card.tracker.search_size, "search_size")
        self.backend = backend
        self.card = card
        self.config = card.tracker
        self._pipeline = pipeline or _pipeline_for(backend, card)
        self._target: _Target | None = None
        # makes an exemplar of the target as it was found last, if it is worth learning
        self._unlearnt: Callable[[], Any] | None = None

    @property
    def initialised(self) -> bool:
        return self._target is not None

    def reset(self) -> None:
        """Forget the target."""
        self._target = self._unlearnt = None

    def init(self, image: Image, box: Box | tuple[float, float, float, float]) -> None:
        """Take a new target; with ``correct_size`` it takes as long as a :meth:`find`.

        Args:
            image: (H, W, 3) uint8 BGR.
            box: x, y, w, h in its pixels.

        Raises:
            ImageError, BoxError: cannot be tracked; a target that was there stays.
        """
        check_image(image)
        height, width = image.shape[:2]
        box = check_target_box(box, width, height)
        view = self._pipeline.take(image)
        pose = _pose(box)
        exemplar = self._pipeline.embed(view, pose.exemplar())
        pixel = exemplar_side(box.w, box.h) / EXEMPLAR_SIZE
        shape = (box.w / pixel, box.h / pixel)
        target = _Target(exemplar, exemplar, exemplar, pose, pose, shape)
        if self._pipeline.search.corrects:
            (look,) = self._pipeline.look(view, Sought(exemplar, target.shape), [pose])
            found = look.found
            if found is not None and self.score(found.value) >= self.config.exemplar_score:
                seen = np.array([found.seen_w, found.seen_h])
                share = self._pipeline.search.corrects
                target.correction = tuple(np.clip(seen**-share, 1 / MOST, MOST).tolist())
        self._target, self._unlearnt = target, None

    def move_to(self, box: Box, turned: float = 0.0) -> None:
        """Search around another place, size and angle from now on, and no more where the target was
        last seen for sure; its look stays.

        Args:
            box: of the target turned back, pixels of the image.
            turned: degrees, as in :class:`Track`.

        Raises:
            SiamkdError: no target.
        """
        target = self._require_target()
        target.pose = target.sure = _pose(box)._replace(turn=math.radians(turned))

    def update(
        self, image: Image, learn: bool = True, turn: bool = True, revisit: bool = True
    ) -> Track:
        """Find the target in the next image, and learn how it looks now: :meth:`find` and
        :meth:`learn`.

        Args:
            image: (H, W, 3) uint8 BGR.
            learn: let the exemplar adapt, if the score allows it too.
            turn: look at turned crops too, if the configuration and the score allow it.
            revisit: look where the target was last seen for sure too, if these allow it.

        Raises:
            SiamkdError, ImageError: as :meth:`find`.
        """
        track = self.find(image, learn, turn, revisit)
        return replace(track, seconds={**track.seconds, "adapt": self.learn()})

    def find(
        self, image: Image, learn: bool = True, turn: bool = True, revisit: bool = True
    ) -> Track:
        """Find the target in the next image. Who is in a hurry uses the box before :meth:`learn`.

        Args:
            image: (H, W, 3) uint8 BGR; it must not change before :meth:`learn`.
            learn: whether :meth:`learn` may let the exemplar adapt.
            turn: whether crops may be turned where the score is low.
            revisit: whether the place where the target was last seen for sure may be looked at
                where the score is low. Without either a frame is one look.

        Raises:
            SiamkdError: no target yet, or a network output that is not finite (the target stays).
            ImageError: not such an image; the target stays where it was.
        """
        self._unlearnt = None
        target = self._require_target()
        check_image(image)
        start = time.perf_counter()
        view = self._pipeline.take(image)
        taken = time.perf_counter() - start
        (sight,), seconds = self._see(view, target, [target.pose])
        if turn and self.config.turn and sight.score < self.config.turn_score:
            step = math.radians(self.config.turn)
            turns = [math.remainder(target.pose.turn + by, math.tau) for by in (-step, step)]
            turned = [target.pose._replace(turn=angle) for angle in turns]
            others, more = self._see(view, target, turned)
            seconds = _sum(seconds, more)
            best = max(others, key=lambda other: other.score)
            if best.score > sight.score + TURN_GAIN:
                sight = best
        doubtful = sight.score < self.config.revisit_score
        if revisit and doubtful and _apart(target.pose, target.sure):
            (there,), more = self._see(view, target, [target.sure])
            seconds = _sum(seconds, more)
            if there.score >= self.config.revisit_score:
                sight = there
        target.pose = pose = sight.pose
        if sight.score >= self.config.revisit_score:
            target.sure = pose
        worth = learn and self.config.exemplar_share and sight.score >= self.config.exemplar_score
        self._unlearnt = sight.embed if worth else None
        seconds["crop"] += taken
        return Track(
            Box.from_center(pose.cx, pose.cy, *_extent(pose.w, pose.h, pose.turn)),
            sight.score,
            sight.found.value,
            sight.found.peak,
            seconds,
            math.nan if sight.alike is None else sight.alike,
            math.degrees(pose.turn),
            Box.from_center(*pose[:4]) if pose.turn else None,
        )

    def alike(self, image: Image, box: Box) -> float:
        """:func:`siamkd_core.likeness.likeness` of what an upright box shows to what was in the
        first; of a turned target that is not ``Track.likeness``.

        Args:
            image: (H, W, 3) uint8 BGR.
            box: in its pixels.

        Raises:
            SiamkdError, ImageError: as :meth:`find`.
        """
        target = self._require_target()
        check_image(image)
        seen = self._pipeline.embed(self._pipeline.take(image), _pose(box).exemplar())
        alike = self._pipeline.likeness(target.first, seen)
        if not math.isfinite(alike):
            raise self._not_finite()
        return alike

    def learn(self) -> float:
        """Take the look of the target in the image found last into the exemplar, if it was sure
        enough there. Called again, after an error, or before anything was found, it does nothing.

        Returns:
            the seconds that it took.
        """
        start = time.perf_counter()
        unlearnt, self._unlearnt = self._unlearnt, None
        if unlearnt is not None and (target := self._target) is not None:
            look = unlearnt()
            recent = self.backend.blend(target.recent, look, self.config.exemplar_rate)
            target.exemplar = self.backend.blend(target.first, recent, self.config.exemplar_share)
            target.recent = recent
        return time.perf_counter() - start

    def score(self, value: float, alike: float | None = None) -> float:
        """Probability that a response logit and a likeness show the target, by the card's
        calibration, or without a likeness that the logit alone does; without a calibration, the
        logit's logistic, which is none."""
        fit = self.card.score
        if fit is not None:
            if not fit.likeness:
                value = fit.slope * value + fit.bias
            elif alike is None:
                value = fit.value_slope * value + fit.value_bias
            else:
                value = fit.slope * value + fit.likeness * alike + fit.bias
        return 1 / (1 + math.exp(-min(max(value, -60.0), 60.0)))

    @property
    def _verifies(self) -> bool:
        """Whether the calibration takes a second look."""
        return self.card.score is not None and self.card.score.likeness != 0

    def _not_finite(self) -> SiamkdError:
        return SiamkdError(
            f"the model {self.card.name} gave a response that is not a number; the target "
            "stays where it was. If this lasts, try precision: float32, or another model"
        )

    def _see(
        self, view: Any, target: _Target, poses: Sequence[Pose]
    ) -> tuple[list[_Sight], dict[str, float]]:
        """What looks around these poses found, and seconds spent per stage.

        Raises:
            SiamkdError: a network output that is not finite.
        """
        start = time.perf_counter()
        first = target.first if self._verifies else None
        sought = Sought(target.exemplar, target.shape, target.correction, first)
        looks = self._pipeline.look(view, sought, poses)
        whole = time.perf_counter() - start
        sights = [self._judged(view, *one) for one in zip(poses, looks, strict=True)]
        seconds = {
            stage: sum(getattr(look, stage) for look in looks)
            for stage in ("model", "post", "verify")
        }
        return sights, {"crop": whole - sum(seconds.values()), **seconds}

    def _judged(self, view: Any, before: Pose, look: Look) -> _Sight:
        """A look with its score; an unsure one does not change the target's size.

        Raises:
            SiamkdError: it is not finite.
        """
        found, pose, alike = look.found, look.pose, look.alike
        if found is None or not math.isfinite(alike or 0.0):
            raise self._not_finite()
        score = self.score(found.value, alike)
        embed = partial(self._pipeline.embed, view, pose.exemplar())
        if score < self.config.size_score:
            pose = pose._replace(w=before.w, h=before.h)
        return _Sight(pose, found, alike, score, embed if alike is None else lambda: look.seen)

    def _require_target(self) -> _Target:
        if self._target is None:
            raise SiamkdError("the tracker has no target yet; call init(image, box) first")
        return self._target


def _pose(box: Box) -> Pose:
    return Pose(box.cx, box.cy, box.w, box.h)


def _apart(pose: Pose, sure: Pose) -> bool:
    return math.dist(pose[:2], sure[:2]) > APART * math.sqrt(sure.w * sure.h)


def _sum(seconds: Mapping[str, float], more: Mapping[str, float]) -> dict[str, float]:
    return {stage: spent + more[stage] for stage, spent in seconds.items()}


def _extent(w: float, h: float, turn: float) -> tuple[float, float]:
    """Width and height of the box around an ellipse of width w and height h, turned by radians:
    ``sqrt((w cos)^2 + (h sin)^2)``, ``sqrt((w sin)^2 + (h cos)^2)``."""
    cos, sin = math.cos(turn), math.sin(turn)
    return math.hypot(w * cos, h * sin), math.hypot(w * sin, h * cos)


def _pipeline_for(backend: Backend, card: ModelCard) -> Pipeline:
    """On a GPU everything stays there; on a CPU OpenCV crops faster."""
    if isinstance(backend, TorchBackend) and backend.device.type == "cuda":
        return DevicePipeline(backend, card.tracker, card.head)
    return HostPipeline(backend, card.tracker, card.head)


def load_tracker(
    model: str | Path,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    backend: str = "auto",
) -> Tracker:
    """A tracker with a shipped model (by name) or the model file at a path.

    Args:
        model: such as ``siamfc`` or ``runs/mine/mine.safetensors``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        threads: CPU threads of PyTorch in this process, and of the backend; None or 0 leaves
            PyTorch's choice.
        backend: one of :data:`siamkd_core.backends.BACKENDS`.

    Raises:
        ModelFileError: no such model or one that does not fit its card.
        ConfigError: an unknown or missing device, precision or backend, or negative threads.
    """
    set_threads(threads)
    return make_tracker(*load_model(model), device, precision, backend)


def make_tracker(
    network: SiameseNetwork,
    card: ModelCard,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
) -> Tracker:
    """A tracker with a network that is taken over (its BatchNorm is folded away), and its card."""
    return Tracker(make_backend(network, backend, device, precision), card)

"""Parameters of the tracker that belong to a model and travel in its card: a class a family."""

from __future__ import annotations

from dataclasses import dataclass

from siamkd_core.anchors import check_search_size
from siamkd_core.errors import ConfigError


@dataclass(frozen=True)
class SearchConfig:
    """What every family's tracker has.

    Attributes:
        search_size: side of the search crop in pixels.
        window: weight of the cosine window against the response, 0..1.
        exemplar_share: how much of the exemplar is the target's recent look, a running mean; the
            rest is the first box's, so that it cannot drift away. 0: the first box's alone, as
            in the paper.
        exemplar_rate: share of each frame in that running mean.
        exemplar_score: frames with a lower score are not learnt from.
        size_score: frames with a lower score leave the target's size as it was: what hides a target
            has another (our choice). 0: all change it, as published.
        turn: degrees, in the image plane. A frame with a score below ``turn_score`` is looked at
            twice more, with crops turned by this much to either side, and what is found there is
            the target where it scores enough more (:data:`siamkd_core.tracker.TURN_GAIN`): so an
            exemplar that stands upright finds a target that rolls, or whose camera does, by any
            angle (our choice). 0: never, as published.
        turn_score: below this score.
        revisit_score: a frame with a lower score is looked at once more, around the place where the
            target was in the last frame that had none lower, and is taken to be there if that look
            has none lower either: so a target that was hidden, while something else was followed,
            is found where it comes out again (our choice). 0: never, as published.
    """

    search_size: int = 255
    window: float = 0.176
    exemplar_share: float = 0.0
    exemplar_rate: float = 0.1
    exemplar_score: float = 0.5
    size_score: float = 0.0
    turn: float = 0.0
    turn_score: float = 0.5
    revisit_score: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.window <= 1:
            raise ConfigError(f"window must lie in 0..1, got {self.window}")
        scores = ("exemplar_score", "size_score", "turn_score", "revisit_score")
        for name in ("exemplar_share", "exemplar_rate", *scores):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie in 0..1, got {getattr(self, name)}")
        if not 0 <= self.turn <= 90:
            raise ConfigError(f"turn must lie in 0..90 degrees, got {self.turn}")


@dataclass(frozen=True)
class TrackerConfig(SearchConfig):
    """SiamFC's; defaults are those of its widely used PyTorch version.

    Attributes:
        scales: how many scales are searched, odd.
        scale_step: ratio of neighbouring scales.
        scale_penalty: factor on the responses of the scales other than 1.
        scale_rate: share of a found scale change that is taken over.
        upsample: response map cells are interpolated (bicubic) by this factor.
    """

    scales: int = 3
    scale_step: float = 1.0375
    scale_penalty: float = 0.9745
    scale_rate: float = 0.59
    upsample: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scales < 1 or self.scales % 2 == 0:
            raise ConfigError(f"scales must be odd, got {self.scales}")
        if self.search_size < 143 or self.upsample < 1 or self.scale_step <= 1:
            raise ConfigError("search_size >= 143, upsample >= 1 and scale_step > 1 are needed")
        if not (0 <= self.scale_rate <= 1 and 0 < self.scale_penalty <= 1):
            raise ConfigError("scale_rate and scale_penalty must lie in 0..1")


@dataclass(frozen=True)
class RpnTrackerConfig(SearchConfig):
    """SiamRPN's; defaults are those of pysot's AlexNet SiamRPN, on DaSiamRPN's search region.

    Attributes:
        search_size: 127 plus a multiple of 16.
        penalty_k: how strongly a change of size and aspect ratio lowers a box's score, see
            :mod:`siamkd_core.select_box`.
        size_rate: share of the chosen box's width and height that is taken over where its score is
            1 and nothing changed.
        vote: cells on each side of the chosen box's whose boxes count too; 0: none, as published.
        correct_size: above 0, the network first looks at the image that the target was given in,
            and this share, in the logarithm, of what it makes of the box's width and height there,
            which are known, is divided out of what it makes of them later (our choice; not
            published), unless its score there is below ``exemplar_score``. An error that it makes
            of one target again and again is gone then with 1; but where the given box is not
            exact, its error comes back again and again, and grows as the crops follow it.
    """

    search_size: int = 271
    window: float = 0.40
    penalty_k: float = 0.16
    size_rate: float = 0.30
    vote: int = 0
    correct_size: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_search_size(self.search_size)
        if self.penalty_k < 0 or not 0 <= self.size_rate <= 1:
            raise ConfigError("penalty_k >= 0 and size_rate in 0..1 are needed")
        if self.vote < 0:
            raise ConfigError(f"vote must not be negative, got {self.vote}")
        if not 0 <= self.correct_size <= 1:
            raise ConfigError(f"correct_size must lie in 0..1, got {self.correct_size}")


@dataclass(frozen=True)
class ScoreConfig:
    """Logistic calibration (Platt, 1999) of two things that speak for a target:
    ``score = 1 / (1 + exp(-(slope * value + likeness * alike + bias)))``.

    ``value`` is the logit at the place the tracker chose, ``alike`` the
    :func:`siamkd_core.likeness.likeness` of what is in the box there to what was in the first.

    Attributes:
        slope, likeness: weights of the two. Without ``likeness`` there is no second look.
        bias: of their sum.
        value_slope, value_bias: of the value alone, where there is a ``likeness``: for the image
            that the target is given in, which is like itself whatever it shows.
    """

    slope: float
    bias: float
    likeness: float = 0.0
    value_slope: float = 0.0
    value_bias: float = 0.0

"""What a distillation is told: teacher, students, and what they learn from whom."""

from __future__ import annotations

from dataclasses import dataclass, field

from siamkd_core.errors import ConfigError
from siamkd_core.harder import HarderConfig
from siamkd_core.recipe import RecipeConfig, check_model_name, check_start
from siamkd_core.siamrpn import HeadConfig

TAKEN = frozenset({"loss", "epoch", "held_out"})
"""Names of curves."""
POSITIVE = ("labels", "teacher")
SHARING = ("directional", "literal", "none")


@dataclass(frozen=True)
class TermsConfig:
    """Weights of a student's losses, 0 leaves one out; each is explained in
    :mod:`siamkd_core.losses`.

    The defaults of ``teacher_soft``, ``adaptive_hard`` and ``margin`` are those of a public
    re-implementation (an MSc thesis on another tracker); that they are the paper's is remembered
    with little certainty, of tau with less. Its 100 for ``target_response`` belongs to another
    normalisation: with ours, which makes the term about 0.5 at first, 100 at a learning rate of
    0.01 drove the loss against the labels from 0.7 to 19 in the first eight steps of
    ``config/distill/smoke.yaml``, and with 1 all terms fell.

    Attributes:
        label: loss against the label.
        teacher_soft: divergence from the teacher's response.
        temperature: tau of ``teacher_soft`` and of the sharing.
        adaptive_hard: loss against the truth where the student does not beat the teacher.
        margin: h, by which the teacher must be beaten, and within which a student may teach
            another; in units of the loss against the truth.
        target_response: distance of the attention maps.
        feature_matching: distance of the features themselves, through a 1x1 convolution that
            learns with the student and is not part of its model (FitNets), or without one, see
            :class:`StudentConfig`.
        positive: who says in ``teacher_soft`` which cells are the target's: the ``labels`` (our
            choice for teachers that have learnt from the same) or the ``teacher``, whose own labels
            may have been of another kind: NanoTrack's positive region is far wider.
    """

    label: float = 0.0
    teacher_soft: float = 1.0
    temperature: float = 1.0
    adaptive_hard: float = 0.1
    margin: float = 0.005
    target_response: float = 1.0
    feature_matching: float = 0.0
    positive: str = "labels"

    def __post_init__(self) -> None:
        weights = (
            self.label,
            self.teacher_soft,
            self.adaptive_hard,
            self.target_response,
            self.feature_matching,
        )
        if min(weights) < 0 or max(weights) == 0:
            raise ConfigError("losses: no weight may be negative, and one must be above 0")
        if self.temperature <= 0:
            raise ConfigError(f"losses: temperature must be above 0, got {self.temperature}")
        if self.positive not in POSITIVE:
            raise ConfigError(f"losses: positive is one of {', '.join(POSITIVE)}")


@dataclass(frozen=True)
class StudentConfig:
    """A student; it is of the teacher's architecture.

    Attributes:
        name: of the model file that comes out.
        widths: channel widths of the backbone.
        backbone: one of the family's, :data:`siamkd_core.siamfc.BACKBONES` or
            :data:`siamkd_core.siamrpn.BACKBONES`; it may be another than the teacher's.
        head: of a siamrpn; its kind and width may be others than the teacher's.
        pretrained: start the backbone from an image classifier, see
            :mod:`siamkd_core.pretrained`.
        start_from: shipped name or path of a model of the same backbone, widths and head to start
            from; of one of another architecture, only the backbone is taken (a siamrpn's
            ``alexnet`` may start from a siamfc's; a siamfc's ``mobilenet_v3`` or
            ``mobilenet_v3_slim`` from a siamrpn's, with necks that are fitted on pairs of the data,
            see :mod:`siamkd_core.start_necks`), for the backbone ``efficientnet_slim`` what
            is left of an ``efficientnet`` and of its head, fitted on pairs of the data,
            see :mod:`siamkd_core.prune`, and for a ``mobilenet_v3_slim`` that of a
            ``mobilenet_v3``, its head as wide or narrower; a slim one may start so from a wider
            slim one too. Empty for random weights.
        reuse_head: start with the teacher's head, of the same kind and width on as many channels,
            or, where it starts from the teacher or what is left of it, keep that head ("SimKD",
            Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", 2022); then
            ``feature_matching`` has no convolution between, so that the features become those that
            the head knows.
        share: weight of what it learns from the other students; 0: nothing. The paper's small
            student has 1 and its large one beta, 0.5 in a public re-implementation and remembered
            to be the paper's.
        learns_from: names of the students that it learns from; empty: all others. Of no effect with
            a share of 0 or without sharing.
        losses: its own terms in place of the recipe's, so that one run compares several.
    """

    name: str
    widths: tuple[int, ...]
    backbone: str = "alexnet"
    head: HeadConfig | None = None
    pretrained: bool = False
    start_from: str = ""
    reuse_head: bool = False
    share: float = 1.0
    learns_from: tuple[str, ...] = ()
    losses: TermsConfig | None = None

    def __post_init__(self) -> None:
        check_model_name(self.name)
        check_start(self.pretrained, self.start_from)
        if self.name in TAKEN:
            raise ConfigError(f"a student cannot be called {self.name}: a curve is")
        if self.share < 0:
            raise ConfigError(f"share of {self.name} must not be negative, got {self.share}")


@dataclass(frozen=True)
class SharingConfig:
    """How students learn from each other.

    Attributes:
        variant: ``directional`` (our choice): a student learns from another while that one, the
            provider, is nearly as good as the teacher, and the provider feels nothing of it.
            ``literal``: the published formula as it is written: the receiver is judged, and both
            are drawn together. ``none``: not at all.
        decay: the sharing's weight falls by this factor an epoch (0.9 in a public
            re-implementation).
    """

    variant: str = "directional"
    decay: float = 0.9

    def __post_init__(self) -> None:
        if self.variant not in SHARING:
            raise ConfigError(f"sharing: variant is one of {', '.join(SHARING)}")
        if not 0 < self.decay <= 1:
            raise ConfigError(f"sharing: decay must lie in 0..1 (above 0), got {self.decay}")


@dataclass(frozen=True)
class DistillConfig(RecipeConfig):
    """A distillation: one teacher, any number of students, each by its own rule of the best epoch.

    Attributes:
        teacher: shipped name or path of a model; it is never changed.
        teacher_sha256: of its file. Filled in when the run begins, so that it goes on with the same
            teacher or not at all; a recipe that has it accepts no other.
        teacher_precision: number format that the teacher computes in, see
            :mod:`siamkd_core.device`; empty: that of the students. It learns nothing, so a coarser
            one may serve: an AlexNet is three times as fast in bfloat16 on a CPU that has it, while
            the backward pass of an EfficientNet is slower.
        students: trained side by side on the same pairs.
        losses: their terms, of those that have none of their own.
        sharing: between the students; needs two of them.
        harder: what the students see otherwise than the teacher. The target response leaves those
            pairs out, feature matching their exemplars.
    """

    teacher: str = ""
    teacher_sha256: str = ""
    teacher_precision: str = ""
    students: tuple[StudentConfig, ...] = ()
    losses: TermsConfig = field(default_factory=TermsConfig)
    sharing: SharingConfig = field(default_factory=SharingConfig)
    harder: HarderConfig = field(default_factory=HarderConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [student.name for student in self.students]
        if not self.teacher or not names:
            raise ConfigError("a distillation needs a teacher and at least one of students")
        if len(set(names)) < len(names):
            raise ConfigError(f"students need different names, got {', '.join(names)}")
        for one in self.students:
            terms = self.terms(one)
            if not (terms.label or terms.teacher_soft):
                # the adaptive-hard loss is the label's of a siamfc and the boxes' of a siamrpn
                if one.head:
                    raise ConfigError(
                        f"losses: the scores of the head of {one.name} would learn from nothing: "
                        "give label or teacher_soft a weight"
                    )
                if one.backbone != "alexnet" and not terms.adaptive_hard:
                    raise ConfigError(
                        f"losses: gain and bias of the response of {one.name} would learn from "
                        "nothing: give label, teacher_soft or adaptive_hard a weight"
                    )
            unknown = set(one.learns_from) - (set(names) - {one.name})
            if unknown:
                raise ConfigError(
                    f"{one.name} cannot learn from {', '.join(sorted(unknown))}: learns_from names "
                    "other students of the recipe"
                )
        if self.sharing.variant != "none" and len(names) < 2:
            raise ConfigError("sharing needs two students; for one write sharing: {variant: none}")

    def terms(self, student: StudentConfig) -> TermsConfig:
        """The losses of a student."""
        return student.losses or self.losses

    def providers(self, student: StudentConfig) -> tuple[str, ...]:
        """Names of the students that it learns from."""
        if self.sharing.variant == "none" or not student.share:
            return ()
        others = tuple(one.name for one in self.students if one.name != student.name)
        return student.learns_from or others

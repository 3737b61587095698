"""The soak's bookkeeping: every change of the target must have been asked for.

Boxes go out under labels of their own, which come back with the target, so an id can be traced to
the box that it stands for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

REFUSED = "box refused: "


@dataclass(frozen=True)
class Demand:
    """What was done to the tracker and must show in `~/status`.

    Attributes:
        kind: for the count.
        label: of a box; empty for what drops the target.
        says: what the reason of the refusal or of the drop must contain; empty for a good box.
        may: what the reason of a refusal may contain that a good box can meet on a busy machine.
    """

    kind: str
    label: str = ""
    says: str = ""
    may: str = ""

    @property
    def good(self) -> bool:
        return bool(self.label) and not self.says


@dataclass
class Ledger:
    """Holds what `~/status` and `~/target` say against what was demanded, one demand at a time.

    Attributes:
        target: id of the present target; empty without one.
        done: demands that had the effect they must have, by kind.
        faults: what nobody asked for, or what had no effect, in words.
        results: messages of `~/target`; `boxes` of them with a box.
    """

    target: str = ""
    done: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    results: int = 0
    boxes: int = 0
    _waiting: Demand | None = None
    _labels: dict[str, str] = field(default_factory=dict)  # of each id

    @property
    def waiting(self) -> bool:
        """Whether a demand has not shown its effect yet."""
        return self._waiting is not None

    @property
    def targets(self) -> int:
        """How many targets there were."""
        return len(self._labels)

    def demand(self, demand: Demand) -> None:
        """Something is about to be done."""
        if self._waiting:
            self.faults.append(f"no effect: {self._waiting}")
        self._waiting = demand

    def give_up(self) -> None:
        """The demand that waits has had its time."""
        if self._waiting:
            self.faults.append(f"no effect: {self._waiting}")
            self._waiting = None

    def status(self, values: Mapping[str, str]) -> None:
        """Take one `~/status` in."""
        reason, target = values["reason"], values["target_id"]
        demand = self._waiting
        if reason.startswith(REFUSED):
            wanted = (demand.says or demand.may) if demand and demand.label else ""
            if demand is None or not wanted or wanted not in reason:
                self.faults.append(f"{reason}, though asked: {demand}")
                return
            if target != self.target:
                self.faults.append(f"{demand} cost the target {self.target}")
            self._settle(demand, ", refused as the machine was busy" if demand.good else "")
        elif not target:
            expected = demand is not None and not demand.label and demand.says in reason
            if demand is not None and expected:
                self.target = ""
                self._settle(demand)
            elif self.target:
                self.faults.append(f"target {self.target} dropped: {reason}; asked: {demand}")
                self.target = ""
        elif target != self.target:
            if demand is None or not demand.good:
                self.faults.append(f"target {target} appeared: {reason}; asked: {demand}")
            elif self._labels.setdefault(target, demand.label) != demand.label:
                self.faults.append(f"target {target} came back for {demand}")
            else:
                self._settle(demand)
            self.target = target

    def result(self, target: str, label: str) -> None:
        """Take one message of `~/target` in; `target` is empty where it has no box."""
        self.results += 1
        if not target:
            return
        self.boxes += 1
        known = self._labels.get(target)
        if known is None and self._waiting and self._waiting.good:
            # the two topics are not in step: this may be the new target before its status
            known = self._labels[target] = self._waiting.label
        if known != label:
            self.faults.append(f"a box with id {target} and label {label!r} that nobody asked for")

    def _settle(self, demand: Demand, how: str = "") -> None:
        self.done[demand.kind + how] += 1
        self._waiting = None

"""Models side by side: the table of what each costs and how well it tracks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from siamkd_core.accuracy import Accuracy
from siamkd_core.benchmark import Timing
from siamkd_core.complexity import Complexity
from siamkd_core.report import table_row

if TYPE_CHECKING:
    from rich.table import Table

NOTES = """\
MB is 10^6 bytes. Multiply-adds: the convolutions and the cross-correlation of one frame, all scales
of the search; the exemplar's embedding is not in it. Peak memory: a process of its own for each
model, loading it and tracking; on the CPU the highest resident memory less that of the same process
after its imports and a network of next to nothing, on CUDA the most that PyTorch had allocated.
Frame: median time of one update, batch 1, as the tracker runs it, but for what comes after the
search; network: the part that the network takes. Second look: the exemplar's embedding of what is
in the box, which a calibrated score takes and an exemplar that adapts learns from. No frame is
looked at turned. The models took turns in one run. Smaller: parameters of the first model over this
one's; faster: its time per frame over this one's, median of the rounds. AUC and mean IoU: as an
evaluation left them; a dash for a model without one, such as the fresh network of a recipe."""


@dataclass(frozen=True)
class Cost:
    """What one model costs, and how well it tracks.

    Attributes:
        name: that tells it apart.
        family: architecture, backbone and head, in words.
        peak_memory: bytes.
        accuracy: None where it was not measured.
    """

    name: str
    family: str
    complexity: Complexity
    timing: Timing
    peak_memory: int
    accuracy: Accuracy | None = None


def figures(cost: Cost, first: Cost) -> dict[str, str]:
    """What is printed of a model, by what it is; ``first`` is what the ratios refer to."""
    fixed, timing = cost.complexity, cost.timing
    accuracy = cost.accuracy
    return {
        "family": cost.family,
        "parameters": f"{fixed.parameters:,}",
        "file, MB": f"{fixed.file_bytes / 1e6:.2f}",
        "multiply-adds a frame, millions": f"{fixed.multiply_adds / 1e6:,.0f}",
        "peak memory, MB": f"{cost.peak_memory / 1e6:.1f}",
        "frame, ms, median": f"{1e3 * timing.median:.2f}",
        "frame, ms, 95 %": f"{1e3 * timing.p95:.2f}",
        "of it the network, ms, median": f"{1e3 * timing.network_median:.2f}",
        "second look, ms, median": f"{1e3 * timing.second_median:.2f}",
        "smaller": f"{first.complexity.parameters / fixed.parameters:.1f}x",
        "faster": f"{first.timing.ratio(timing):.2f}x",
        "AUC": f"{accuracy.auc:.3f}" if accuracy else "-",
        "mean IoU": f"{accuracy.mean_iou:.3f}" if accuracy else "-",
    }


def rows(costs: Sequence[Cost]) -> list[tuple[str, ...]]:
    """The table, its header first: a column a model, a row a figure."""
    columns = [figures(cost, costs[0]) for cost in costs]
    header = ("", *(cost.name for cost in costs))
    return [header, *((name, *(column[name] for column in columns)) for name in columns[0])]


def markdown(costs: Sequence[Cost], facts: Mapping[str, str]) -> str:
    """The table as Markdown, with the facts above and the definitions below."""
    header, *body = rows(costs)
    lines = ["# Models side by side", ""]
    lines += [f"- {key}: {value}" for key, value in facts.items()]
    lines += ["", table_row(header), "|---|" + "---:|" * len(costs)]
    lines += [table_row(row) for row in body]
    return "\n".join([*lines, "", NOTES, ""])


def terminal_table(costs: Sequence[Cost]) -> Table:
    """The table for a rich console."""
    from rich.table import Table

    header, *body = rows(costs)
    table = Table()
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left")
    for row in body:
        table.add_row(*row)
    return table

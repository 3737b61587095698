"""Published datasets in their own layouts: a file each, and the one list of them.

docs/datasets.md has the layouts, what becomes of their flags, and where they come from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from siamkd_core.datasets.coco import SPLITS as COCO_SPLITS
from siamkd_core.datasets.coco import read_coco
from siamkd_core.datasets.folders import read_folders
from siamkd_core.datasets.got10k import SPLITS as GOT10K_SPLITS
from siamkd_core.datasets.got10k import read_got10k
from siamkd_core.datasets.imagenet import SPLITS as IMAGENET_SPLITS
from siamkd_core.datasets.imagenet import read_imagenet_det, read_imagenet_vid
from siamkd_core.datasets.lasot import SPLITS as LASOT_SPLITS
from siamkd_core.datasets.lasot import read_lasot
from siamkd_core.datasets.otb import read_dtb70, read_otb
from siamkd_core.datasets.trackingnet import SPLITS as TRACKINGNET_SPLITS
from siamkd_core.datasets.trackingnet import read_trackingnet
from siamkd_core.datasets.uav123 import SPLITS as UAV123_SPLITS
from siamkd_core.datasets.uav123 import read_uav123
from siamkd_core.datasets.vot import read_vot
from siamkd_core.datasets.youtube_bb import SPLITS as YOUTUBE_BB_SPLITS
from siamkd_core.datasets.youtube_bb import read_youtube_bb
from siamkd_core.errors import DataError
from siamkd_core.sequences import Sequence, Still


@dataclass(frozen=True)
class Adapter:
    """Reads one dataset.

    Attributes:
        read: of root and split.
        splits: their names; empty if the dataset has only one part.
    """

    read: Callable[[Path, str], list[Sequence] | list[Still]]
    splits: tuple[str, ...] = ()


DATASETS = {
    "folders": Adapter(read_folders),
    "got10k": Adapter(read_got10k, GOT10K_SPLITS),
    "lasot": Adapter(read_lasot, LASOT_SPLITS),
    "trackingnet": Adapter(read_trackingnet, TRACKINGNET_SPLITS),
    "imagenet_vid": Adapter(read_imagenet_vid, IMAGENET_SPLITS),
    "youtube_bb": Adapter(read_youtube_bb, YOUTUBE_BB_SPLITS),
    "coco": Adapter(read_coco, COCO_SPLITS),
    "imagenet_det": Adapter(read_imagenet_det, IMAGENET_SPLITS),
    "otb": Adapter(read_otb),
    "uav123": Adapter(read_uav123, UAV123_SPLITS),
    "dtb70": Adapter(read_dtb70),
    "vot": Adapter(read_vot),
}


def check_dataset(name: str, split: str | None = None) -> None:
    """Raise DataError if there is no such dataset, or no such split of it; say what there is."""
    if name not in DATASETS:
        raise DataError(f"no dataset {name!r}; there are: {', '.join(DATASETS)}")
    splits = DATASETS[name].splits
    if splits and not split:
        raise DataError(f"the dataset {name} has several splits, name one: {', '.join(splits)}")
    if split and split not in splits:
        raise DataError(
            f"the dataset {name} has no split {split!r}; there are: {', '.join(splits) or 'none'}"
        )


def read_dataset(name: str, root: str | Path, split: str | None = None) -> list[Sequence | Still]:
    """Read a dataset in its published layout.

    Args:
        name: one of DATASETS.
        root: its folder, as docs/datasets.md shows it.
        split: one of its splits; a dataset that has several needs one named.

    Raises:
        DataError: unknown name or split, another layout, or broken annotations.
    """
    check_dataset(name, split)
    return [*DATASETS[name].read(Path(root), split or "")]


def read_dataset_sequences(name: str, root: str | Path, split: str | None = None) -> list[Sequence]:
    """As :func:`read_dataset`, for what needs videos.

    Raises:
        DataError: also if the dataset is of stills.
    """
    found = read_dataset(name, root, split)
    sequences = [one for one in found if isinstance(one, Sequence)]
    if len(sequences) < len(found):
        raise DataError(f"{root} holds stills ({name}); expected videos")
    return sequences

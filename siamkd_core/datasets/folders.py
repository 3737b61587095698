"""This project's own form: sequence folders, or stills with boxes.jsonl."""

from __future__ import annotations

from pathlib import Path

from siamkd_core.sequences import Sequence, Still, read_sequences, read_stills


def read_folders(root: Path, split: str = "") -> list[Sequence] | list[Still]:
    """The stills of ``root`` if it has a boxes.jsonl, otherwise its sequence folders.

    Raises:
        DataError: it has neither, or broken ones.
    """
    return read_stills(root) if (root / "boxes.jsonl").is_file() else read_sequences(root)

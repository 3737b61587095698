"""What to say when a folder is not what its reader expects: the layout expected, and what is there.

Every reader of data on disk words its refusal here, so that all of them can be read alike.
"""

from __future__ import annotations

from pathlib import Path

from siamkd_core.errors import DataError

SHOWN = 5
"""How many names of a folder an error shows."""


def holdings(folder: Path) -> str:
    """`found a, b, c (and 12 more)`, or that there is no such folder."""
    if not folder.is_dir():
        return "it does not exist" if not folder.exists() else "it is a file"
    names = sorted(path.name for path in folder.iterdir())
    more = f" (and {len(names) - SHOWN} more)" if len(names) > SHOWN else ""
    return f"found {', '.join(names[:SHOWN]) or 'nothing'}{more}"


def wrong_layout(root: Path, dataset: str, expected: str, missing: Path) -> DataError:
    """The error for a root whose ``missing`` file or folder is not there.

    Args:
        root: what the user named.
        dataset: the dataset's own name.
        expected: its layout below ``root``, on one line.
        missing: what was looked for; the deepest folder above it that exists is shown.
    """
    if not root.is_dir():
        return DataError(f"{root} is no {dataset} folder: expected {expected}; {holdings(root)}")
    nearest = missing.parent
    while nearest != root and not nearest.is_dir():
        nearest = nearest.parent
    inside = "" if nearest == root else f" in {nearest.relative_to(root)}"
    return DataError(
        f"{root} is no {dataset} folder, there is no {missing.relative_to(root)}: "
        f"expected {expected}; {holdings(nearest)}{inside}"
    )


def require(path: Path, root: Path, dataset: str, expected: str) -> Path:
    """Return ``path`` if it exists.

    Raises:
        DataError: it does not; see :func:`wrong_layout`.
    """
    if not path.exists():
        raise wrong_layout(root, dataset, expected, path)
    return path

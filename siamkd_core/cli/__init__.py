"""The command ``siamkd``: one verb a file."""

from __future__ import annotations

import argparse
import errno
import sys
from importlib import import_module

from siamkd_core import __version__
from siamkd_core.errors import SiamkdError

VERBS = (
    "prepare",
    "inspect",
    "train",
    "distill",
    "search",
    "average",
    "import-weights",
    "export",
    "maps",
    "compare",
    "tune",
    "calibrate",
    "track",
    "evaluate",
)
RESUME = frozenset({"prepare", "train", "distill", "search", "tune", "evaluate"})
"""Verbs that go on where they were interrupted."""
FILES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})
"""What is not ours to mend: a disk that is full, files and folders that are another's."""


def main(argv: list[str] | None = None) -> int:
    """Run ``siamkd``; an error of the user's, or of the file system, is printed and gives 2, Ctrl-C
    gives 130."""
    parser = argparse.ArgumentParser(
        prog="siamkd", description="Small, fast Siamese trackers: train, distil, evaluate, track."
    )
    parser.add_argument("--version", action="version", version=f"siamkd {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name in VERBS:
        module = import_module(f"siamkd_core.cli.{name.replace('-', '_')}")
        verb = verbs.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(verb)
        verb.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except SiamkdError as error:
        print(f"siamkd {args.verb}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in FILES:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"siamkd {args.verb}: {where}{error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        goes_on = "interrupted; run it again to go on"
        message = str(stopped) or (goes_on if args.verb in RESUME else "interrupted")
        print(f"siamkd {args.verb}: {message}", file=sys.stderr)
        return 130

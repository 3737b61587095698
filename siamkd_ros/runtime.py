"""The process around a node: memory allocator, signals, spinning, exit code."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Protocol

import rclpy
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger

from siamkd_core.errors import SiamkdError

# glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MEGABYTE = 1 << 20
UNREADABLE = "Couldn't parse"
"""In rcl's words about arguments and files of parameters that it cannot read."""


class Closable(Protocol):
    """A node that has something to stop before it is destroyed."""

    def close(self) -> None: ...


def keep_image_memory() -> bool:
    """Let malloc keep freed image buffers instead of returning them to the kernel every time.

    A 720p image is above glibc's threshold for fresh pages, and each costs hundreds of page faults
    (docs/latency.md). To be called before the middleware starts.

    Returns:
        False where the C library has no mallopt.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    mmap_set = mallopt(M_MMAP_THRESHOLD, 32 * MEGABYTE)
    return bool(mmap_set and mallopt(M_TRIM_THRESHOLD, 256 * MEGABYTE))


def return_memory() -> None:
    """Give freed memory back to the system: the C library's, and PyTorch's on a GPU."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        # a GPU whose driver has failed raises at everything, and has nothing to give back
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return  # not glibc


def run(make_node: Callable[[], Any], args: list[str] | None = None, interrupted: int = 0) -> int:
    """Make a node, spin it until Ctrl-C, SIGTERM or the end of its work, and close it.

    A node ends its own work by `SystemExit` out of a callback.

    Args:
        interrupted: exit code after Ctrl-C or SIGTERM.

    Returns:
        the process's exit code: 2 for what the user must change, 1 where ROS does not start.
    """
    keep_image_memory()
    # Under a launch two SIGINTs arrive, and the second would interrupt the shutdown. rclpy's own
    # handlers end the spinning; what Python does on top of that is never needed.
    _handle(lambda *_: None)
    try:
        rclpy.init(args=args)
    except Exception as error:  # RCLError, which has no public name, and says why in words alone
        get_logger("siamkd_ros").fatal(f"cannot start: {error}")
        return 2 if UNREADABLE in str(error) else 1
    node = None
    try:
        # before the node: after a signal while that loads its model, none could be made
        executor = SingleThreadedExecutor()
        node = make_node()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except SystemExit as finished:
        return int(finished.code or 0)
    except (SiamkdError, InvalidParameterTypeException) as error:
        get_logger("siamkd_ros").fatal(str(error))
        return 2
    except Exception:
        if rclpy.ok():
            raise
        # the context was shut down while the node was being made
    finally:
        if node is not None:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
        # a leaving interpreter gives every other handler up, and the next signal would be its death
        _handle(signal.SIG_IGN)
    return interrupted


def _handle(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def main_exit(make_node: Callable[[], Any], interrupted: int = 0) -> None:
    """`run` as a console script."""
    code = run(make_node, interrupted=interrupted)
    # All is closed. What Python does on top, object by object of PyTorch, takes half a second of a
    # processor: on a busy machine more than a launch waits before it kills.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

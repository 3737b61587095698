"""Errors for the person who made the mistake: what was wrong, where, what to do."""

from __future__ import annotations


class SiamkdError(Exception):
    """Base of every error a user can cause; the command line prints it and exits with 2."""


class ImageError(SiamkdError, ValueError):
    """An image that cannot be tracked in: wrong type, shape, size or dtype."""


class BoxError(SiamkdError, ValueError):
    """A box that cannot be a target: not finite, empty, or outside the image."""


class ConfigError(SiamkdError, ValueError):
    """A configuration with an unknown key, a wrong type or a value out of range."""


class DataError(SiamkdError):
    """A data folder that does not have the layout its reader expects."""


class ModelFileError(SiamkdError):
    """A model file whose names, shapes, hash or card do not fit."""


class DivergedError(SiamkdError):
    """A loss that is not finite."""


class ShapeError(SiamkdError):
    """A student's shape that cannot be, or cannot be trained."""


def first_line(error: BaseException) -> str:
    """What an error of anybody's says, in a line; its kind where it says nothing."""
    return str(error).strip().partition("\n")[0] or repr(error)

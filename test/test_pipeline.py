"""What lies between the tracker's arithmetic and the network, on the host."""

import tracemalloc

import numpy as np

from siamkd_core.crop import Square, crop_square, mean_colour
from siamkd_core.pipeline import HostPipeline
from siamkd_core.search import Known
from siamkd_core.tracker_config import TrackerConfig

CONFIG = TrackerConfig(search_size=151, scales=3)
HERE = Square(90.0, 70.0, 80.0)
KNOWN = Known((30.0, 40.0), (30.0, 40.0))


class Recorder:
    """A backend that keeps what it is lent, and copies of it."""

    def __init__(self):
        self.lent, self.seen = [], []

    def embed_exemplar(self, crop):
        return crop.astype(np.float32)

    def respond(self, exemplar, crops):
        self.lent.append(crops)
        self.seen.append(crops.copy())
        return np.zeros((len(crops), 4, 4), np.float32)


class Silent:
    """A backend whose answer is not finite: nothing is made of it."""

    def respond(self, exemplar, crops):
        return np.full((len(crops), 4, 4), np.nan, np.float32)


def image(seed):
    return np.random.default_rng(seed).integers(0, 256, (150, 200, 3), np.uint8)


def test_each_look_cuts_its_own_image_into_the_same_memory():
    backend = Recorder()
    pipeline = HostPipeline(backend, CONFIG)
    squares = HERE, HERE._replace(cx=20.0), Square(-500.0, -500.0, 80.0)
    for seed, square in enumerate(squares):
        pipeline.look(pipeline.take(image(seed)), None, square, KNOWN)
    assert all(np.shares_memory(backend.lent[0], crops) for crops in backend.lent)
    factors = pipeline.search.factors()
    assert len(factors) == 3
    for seed, (square, crops) in enumerate(zip(squares, backend.seen, strict=True)):
        picture = image(seed)
        for factor, crop in zip(factors, crops, strict=True):
            side = square.side * factor
            expected = crop_square(picture, square[:2], side, 151, mean_colour(picture))
            assert np.array_equal(crop, expected)


def test_a_look_needs_no_memory_for_its_crops():
    """NumPy tells tracemalloc of what it allocates."""
    pipeline = HostPipeline(Silent(), CONFIG)
    view = pipeline.take(image(0))
    pipeline.look(view, None, HERE, KNOWN)
    tracemalloc.start()
    try:
        pipeline.look(view, None, HERE, KNOWN)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 151 * 151 * 3  # of one of three

"""What lies between the tracker's arithmetic and the network, on the host."""

import tracemalloc

import numpy as np

from siamkd_core.crop import crop_square, mean_colour
from siamkd_core.pipeline import HostPipeline, Sought
from siamkd_core.pose import Pose
from siamkd_core.tracker_config import TrackerConfig

CONFIG = TrackerConfig(search_size=151, scales=3)
HERE = Pose(90.0, 70.0, 30.0, 40.0)
SOUGHT = Sought(None, (30.0, 40.0))


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
    poses = HERE, HERE._replace(cx=20.0), HERE._replace(cx=-500.0, cy=-500.0)
    for seed, pose in enumerate(poses):
        pipeline.look(pipeline.take(image(seed)), SOUGHT, [pose])
    assert all(np.shares_memory(backend.lent[0], crops) for crops in backend.lent)
    factors = pipeline.search.factors()
    assert len(factors) == 3
    for seed, (pose, crops) in enumerate(zip(poses, backend.seen, strict=True)):
        picture, square = image(seed), pose.region(151)
        for factor, crop in zip(factors, crops, strict=True):
            side = square.side * factor
            expected = crop_square(picture, square[:2], side, 151, mean_colour(picture))
            assert np.array_equal(crop, expected)


def test_a_look_needs_no_memory_for_its_crops():
    """NumPy tells tracemalloc of what it allocates."""
    pipeline = HostPipeline(Silent(), CONFIG)
    view = pipeline.take(image(0))
    pipeline.look(view, SOUGHT, [HERE])
    tracemalloc.start()
    try:
        pipeline.look(view, SOUGHT, [HERE])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 151 * 151 * 3  # of one of three

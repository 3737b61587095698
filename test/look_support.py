"""A tracker whose looks are told beforehand, and a disc on a background for it to look at."""

from dataclasses import replace

import cv2
import numpy as np

from siamkd_core.box import Box
from siamkd_core.modelfile import ModelCard
from siamkd_core.tracker import Tracker
from siamkd_core.tracker_config import ScoreConfig, TrackerConfig

CONFIG = TrackerConfig(window=0.1, turn=25.0, turn_score=0.6)
CARD = ModelCard("turning", "siamfc", (2,) * 5, 0, tracker=CONFIG, score=ScoreConfig(10.0, -6.0))
HOME = Box(140, 100, 40, 40)


class Matching:
    """Normalised cross-correlation with the middle of the exemplar's crop: it knows the exemplar
    upright alone."""

    def embed_exemplar(self, crop):
        return np.float32(crop[40:87, 40:87])

    def respond(self, exemplar, crops):
        self.looks = getattr(self, "looks", 0) + 1
        places = (np.arange(17) - 8) * 8 + 127 - 23
        maps = [cv2.matchTemplate(np.float32(c), exemplar, cv2.TM_CCOEFF_NORMED) for c in crops]
        return np.stack([one[np.ix_(places, places)] for one in maps])

    def blend(self, exemplar, other, share):
        return (1 - share) * exemplar + share * other

    def describe(self):
        return {"backend": "matching"}


def noise(seed, size, blur):
    made = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    made = cv2.GaussianBlur(made, (0, 0), blur).astype(np.float32)
    return np.uint8(np.clip((made - made.mean()) * 3 + 128, 0, 255))


BACKGROUND = noise(1, (240, 320), 3)
DISC = noise(2, (64, 64), 4)


def rolled(degrees, centre=(160.0, 120.0)):
    """A textured disc, turned from x towards y, on a background that stays."""
    turn = cv2.getRotationMatrix2D((31.5, 31.5), -degrees, 1.0)
    turn[:, 2] += np.array(centre) - 0.5 - 31.5
    size = BACKGROUND.shape[1::-1]
    mask = np.zeros((64, 64), np.uint8)
    cv2.circle(mask, (32, 32), 28, 255, -1)
    disc, inside = (cv2.warpAffine(part, turn, size) for part in (DISC, mask))
    return np.where(inside[..., None] > 127, disc, BACKGROUND)


class Scripted(Matching):
    """Answers a look after the other with a given logit at a given displacement (cells)."""

    def __init__(self):
        self.answers, self.seen = [], []

    def respond(self, exemplar, crops):
        self.seen.append(crops[1].copy())
        value, column, row = self.answers.pop(0)
        response = np.full((3, 17, 17), value - 9.0, np.float32)
        response[1, 8 + row, 8 + column] = value
        return response


def scripted(answers, box=HOME, **config):
    card = replace(CARD, tracker=replace(CONFIG, window=0.0, upsample=1, **config), score=None)
    tracker = Tracker(Scripted(), card)
    tracker.init(rolled(0), box)
    tracker.backend.answers = answers
    return tracker


def logit(score):
    return float(np.log(score / (1 - score)))

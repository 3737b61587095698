"""Data to train on in seconds, and a recipe run by two processes."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import torch
import yaml
from synthetic import moving_boxes, write_sequence

from siamkd_core.augment import AugmentConfig
from siamkd_core.config import to_mapping
from siamkd_core.modelfile import load_model
from siamkd_core.pairs import PairsConfig, SourceConfig

PAIRS = PairsConfig(
    sources=(SourceConfig(("stills/*", "tracks/*")),),
    holdout=("held", "moving"),
    search_size=159,
)

TRACKS = PairsConfig(
    sources=(SourceConfig(("*",)),),
    holdout=("held",),
    search_size=191,
    augment=AugmentConfig(stretch=0.1, shift=20),
)
"""Pairs of :func:`write_tracks`."""


def write_stills(folder, count=4, seed=0):
    """Images with one box each, and boxes.jsonl."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    lines = []
    for number in range(count):
        image = rng.integers(60, 120, (120, 160, 3), np.uint8)
        image[40:70, 50:90] = rng.integers(0, 256, (30, 40, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), image)
        lines.append(json.dumps({"file": f"{number}.png", "boxes": [[50, 40, 40, 30]]}))
    (folder / "boxes.jsonl").write_text("\n".join(lines))


def write_data(root):
    """What PAIRS is made of; the stills `held` and the sequence `moving` are held out."""
    for seed, name in enumerate(("set", "held")):
        write_stills(root / "stills" / name, seed=seed)
    write_sequence(root / "tracks" / "moving", moving_boxes(6))
    return root


def write_tracks(root):
    """Three sequences of five frames, ``held`` is held out."""
    for number, name in enumerate(("one", "two", "held")):
        write_sequence(root / name, moving_boxes(5, step=2 + number, side=20 + 4 * number))
    return root


def run_by_two(verb, config, data, output, recipe):
    """`siamkd VERB` in two processes; returns what they printed."""
    recipe.write_text(yaml.safe_dump(to_mapping(config)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "siamkd_core", verb, str(recipe)]
    command += ["--data", str(data), "--output", str(output), "--device", "cpu"]
    command += ["--precision", "float32", "--threads", "1"]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    pair = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert pair.returncode == 0, pair.stderr
    return pair.stdout


def same_weights(one, other):
    before, after = (load_model(path)[0].state_dict() for path in (one, other))
    return all(torch.equal(before[name], after[name]) for name in before)

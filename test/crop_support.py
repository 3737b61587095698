"""Images that resample well, and a crop reckoned pixel by pixel."""

import cv2
import numpy as np


def smooth_image(height=120, width=160, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 4)


def reference_crop(image, center, side, size, colour):
    """Bilinear sampling, pixel by pixel in float64, outside = the pad colour."""
    height, width = image.shape[:2]
    out = np.empty((size, size, 3))
    for row in range(size):
        for column in range(size):
            x = center[0] + ((column + 0.5) / size - 0.5) * side - 0.5
            y = center[1] + ((row + 0.5) / size - 0.5) * side - 0.5
            x0, y0 = int(np.floor(x)), int(np.floor(y))
            value = np.zeros(3)
            for j, wy in ((y0, 1 - (y - y0)), (y0 + 1, y - y0)):
                for i, wx in ((x0, 1 - (x - x0)), (x0 + 1, x - x0)):
                    inside = 0 <= i < width and 0 <= j < height
                    value += wx * wy * (image[j, i] if inside else colour)
            out[row, column] = value
    return out

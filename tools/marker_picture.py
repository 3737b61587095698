"""The picture that RViz 2 draws of markers: its orbit camera, its light, its textured triangles.

Only what `box_picker` sends is drawn: TRIANGLE_LIST with a texture, LINE_LIST, LINE_STRIP and
TEXT_VIEW_FACING, in the fixed frame. The view is read from a .rviz file. Held against a window of
RViz 2 (Jazzy): its light shines the way the view looks, what faces away from it is black, and the
lines of a text begin below each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from siamkd_core.image import Image

Floats = NDArray[np.float64]
FONT = cv2.FONT_HERSHEY_SIMPLEX
VISIBLE = 1e-3
"""Scale below which a plane is not to be seen."""


@dataclass(frozen=True)
class View:
    """RViz's Orbit view of a window.

    Attributes:
        width, height: of the window, pixels.
        focal: the point looked at, metres.
        distance, yaw, pitch: where the camera is, seen from that point; metres, radians.
        fov: vertical field of view, radians.
        background: BGR.
    """

    width: int
    height: int
    focal: tuple[float, float, float]
    distance: float
    yaw: float
    pitch: float
    fov: float
    background: tuple[int, int, int]

    def matrix(self) -> Floats:
        """(3, 4): homogeneous point of the fixed frame to homogeneous pixel; the third row is the
        distance along the view."""
        level = math.cos(self.pitch)
        away = np.array(
            [level * math.cos(self.yaw), level * math.sin(self.yaw), math.sin(self.pitch)]
        )
        position = np.array(self.focal) + self.distance * away
        forward = -away
        right = np.cross(forward, (0.0, 0.0, 1.0))  # the z axis stays upright in the window
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        focal_length = self.height / 2 / math.tan(self.fov / 2)
        intrinsic = np.array(
            [[focal_length, 0, self.width / 2], [0, focal_length, self.height / 2], [0, 0, 1]]
        )
        return np.asarray(intrinsic @ np.c_[rotation, -rotation @ position], np.float64)


def view_from_rviz(text: str, width: int, height: int) -> View:
    """The current view of a .rviz file's text."""
    manager = yaml.safe_load(text)["Visualization Manager"]
    view = manager["Views"]["Current"]
    red, green, blue = (
        int(part) for part in manager["Global Options"]["Background Color"].split(";")
    )
    focal = view["Focal Point"]
    return View(
        width,
        height,
        (float(focal["X"]), float(focal["Y"]), float(focal["Z"])),
        view["Distance"],
        view["Yaw"],
        view["Pitch"],
        view["Field of View"],
        (blue, green, red),
    )


def draw_markers(markers: Iterable[Any], view: View) -> Image:
    """(H, W, 3) uint8 BGR of visualization_msgs/Markers, far ones first."""
    canvas: Image = np.full((view.height, view.width, 3), view.background, np.uint8)
    matrix = view.matrix()
    drawers = {11: _triangles, 5: _segments, 4: _segments, 9: _text}
    shown = sorted(markers, key=lambda marker: (marker.type != 11, marker.id))
    for marker in shown:
        drawers[marker.type](canvas, marker, matrix)
    return canvas


def _triangles(canvas: Image, marker: Any, matrix: Floats) -> None:
    texture = cv2.imdecode(np.frombuffer(marker.texture.data, np.uint8), cv2.IMREAD_COLOR)
    if texture is None:
        raise ValueError("the marker's texture is no picture")
    if marker.scale.x < VISIBLE:
        return
    rows, columns = texture.shape[:2]
    height, width = canvas.shape[:2]
    for first in range(0, len(marker.points), 3):
        corners = np.array([(p.x, p.y, p.z) for p in marker.points[first : first + 3]])
        uv = np.array([(c.u, c.v, 1.0) for c in marker.uv_coordinates[first : first + 3]])
        normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
        lit = max(0.0, float(normal @ -matrix[2, :3] / np.linalg.norm(normal)))
        # (u, v, 1) to the point there, to the window; the texture's pixels to (u, v, 1)
        to_point = np.vstack([corners.T, np.ones(3)]) @ np.linalg.inv(uv.T)
        from_pixel = np.diag([1 / columns, 1 / rows, 1.0])
        picture = cv2.warpPerspective(
            cv2.convertScaleAbs(texture, alpha=lit),
            matrix @ to_point @ from_pixel,
            (width, height),
            flags=cv2.INTER_AREA,
        )
        mask = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(mask, _project(corners, matrix)[0].round().astype(np.int32), 255)
        canvas[mask > 0] = picture[mask > 0]


def _segments(canvas: Image, marker: Any, matrix: Floats) -> None:
    points = np.array([(p.x, p.y, p.z) for p in marker.points])
    pixels, depth = _project(points, matrix)
    focal_length = float(np.linalg.norm(matrix[1, :3] - canvas.shape[0] / 2 * matrix[2, :3]))
    step = 1 if marker.type == 4 else 2
    for n in range(0, len(points) - 1, step):
        thick = max(1, round(marker.scale.x * focal_length / depth[n]))
        start, end = (tuple(map(int, pixels[k].round())) for k in (n, n + 1))
        cv2.line(canvas, start, end, _colour(marker), thick, cv2.LINE_AA)


def _text(canvas: Image, marker: Any, matrix: Floats) -> None:
    place = marker.pose.position
    pixels, depth = _project(np.array([[place.x, place.y, place.z]]), matrix)
    focal_length = float(np.linalg.norm(matrix[1, :3] - canvas.shape[0] / 2 * matrix[2, :3]))
    letter = marker.scale.z * focal_length / float(depth[0])
    lines = str(marker.text).split("\n")
    scale = letter / 34
    sizes = [cv2.getTextSize(line, FONT, scale, 1)[0] for line in lines]
    x, y = pixels[0]
    x -= max(wide for wide, _ in sizes) / 2
    y -= letter * (len(lines) - 1) / 2
    for line, (_, high) in zip(lines, sizes, strict=True):
        origin = (round(x), round(y + high / 2))
        cv2.putText(canvas, line, origin, FONT, scale, _colour(marker), 1, cv2.LINE_AA)
        y += letter


def _project(points: Floats, matrix: Floats) -> tuple[Floats, Floats]:
    """(N, 3) points to (N, 2) pixels and (N,) distances along the view."""
    homogeneous = np.c_[points, np.ones(len(points))] @ matrix.T
    return homogeneous[:, :2] / homogeneous[:, 2:], homogeneous[:, 2]


def _colour(marker: Any) -> tuple[int, int, int]:
    c = marker.color
    return round(255 * c.b), round(255 * c.g), round(255 * c.r)

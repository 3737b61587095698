"""What the box picker shows in RViz: the picture on a plane, corners, box and a line of text.

Facts of RViz 2's marker display (Humble, Jazzy) that this obeys: a texture is used if
`texture_resource` starts with `embedded://` and there is one uv coordinate a point; its `format` is
a file's extension; every update of a textured marker lays another texture over those before, which
darkens them, so the picture is deleted and added under another id; a marker that is deleted leaves
its texture in memory, but an update frees the one before, so it is given one of a pixel first; two
markers of one id in an array are an error, so that takes three ids, in turn; a textured triangle is
lit by a light that shines the way the view looks, so it must face -z, where the camera is, or it is
black; nothing is culled; a text's `scale.x` is the width of its spaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from geometry_msgs.msg import Point
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray, UVCoordinate

from siamkd_core.box import Box
from siamkd_core.image import Image
from siamkd_ros.picture_plane import Pixel, Plane
from siamkd_ros.rejected import Rejected

PICTURE, DRAWING = "picture", "drawing"
WHITE = (1.0, 1.0, 1.0)
CORNER = (0.2, 0.9, 1.0)
GIVEN = (0.3, 1.0, 0.3)
TRACKED = (1.0, 0.85, 0.25)
# Corners of the plane, in the order that gives both triangles the normal -z, and their uv.
TRIANGLES = (0, 2, 1, 0, 3, 2)
UV = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
LINE = 0.004
"""Width of lines, and NEARER the gap between them and the plane, as shares of its distance."""
NEARER = 0.004
LETTER = 0.03
SPACE = 0.3
"""Width of a space, in heights of a letter: RViz's own is that of a letter a metre high."""
PIXEL = np.zeros((1, 1, 3), np.uint8)
TINY = 1e-6
"""Scale of a plane that is not to be seen; RViz warns of 0."""


def encode_picture(image: Image, max_width: int, quality: int) -> bytes:
    """A JPEG of (H, W, 3) uint8 BGR, shrunk to `max_width`.

    Raises:
        Rejected: `encoding`: JPEG has no room for so many rows.
    """
    height, width = image.shape[:2]
    if width > max_width:
        size = (max_width, max(1, round(height * max_width / width)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    try:
        done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error:
        done = False
    if not done:
        raise Rejected("encoding", f"a picture of {width}x{height} pixels cannot be shown as JPEG")
    return data.tobytes()


class PlaneMarkers:
    """Makes whole MarkerArrays: each one says everything, so a display that comes late or misses
    one shows the right thing at the latest with the next."""

    def __init__(self) -> None:
        self._turn = 0
        self._pixel = encode_picture(PIXEL, 1, 50)

    def array(
        self,
        frame_id: str,
        plane: Plane,
        jpeg: bytes,
        *,
        first: Pixel | None = None,
        given: Box | None = None,
        tracked: Box | None = None,
        text: str = "",
    ) -> MarkerArray:
        """The markers for one moment.

        Args:
            frame_id: the camera's optical frame.
            jpeg: the picture on the plane.
            first: the corner clicked so far, pixels: lines through it span the picture, as RViz
                tells no mouse position that a rubber band could follow.
            given, tracked: the box just given, and the one that the tracker reports.
            text: shown under the picture.
        """
        camera = plane.camera
        width, height = float(camera.width), float(camera.height)
        guides: list[Pixel] = []
        if first is not None:
            u, v = first
            guides = [(0.0, v), (width, v), (u, 0.0), (u, height)]
        oldest, before, now = ((self._turn + k) % 3 for k in range(3))
        self._turn = before
        markers = [
            Marker(ns=PICTURE, id=oldest, action=Marker.DELETE),
            _picture(before, plane, self._pixel, TINY),
            _picture(now, plane, jpeg),
            _lines(0, plane, Marker.LINE_LIST, guides, CORNER),
            _lines(1, plane, Marker.LINE_STRIP, _outline(given), GIVEN),
            _lines(2, plane, Marker.LINE_STRIP, _outline(tracked), TRACKED),
            _text(3, plane, text),
        ]
        for marker in markers:
            marker.header.frame_id = frame_id  # stamp 0: RViz takes the latest transform
        return MarkerArray(markers=markers)


def _picture(number: int, plane: Plane, jpeg: bytes, scale: float = 1.0) -> Marker:
    marker = _marker(PICTURE, number, Marker.TRIANGLE_LIST, WHITE)
    marker.scale.x = marker.scale.y = marker.scale.z = scale
    corners = plane.corners()
    marker.points = [_point(corners[n]) for n in TRIANGLES]
    marker.uv_coordinates = [UVCoordinate(u=UV[n][0], v=UV[n][1]) for n in TRIANGLES]
    marker.texture_resource = f"embedded://siamkd_box_picker_{number}"
    marker.texture = CompressedImage(format="jpg")
    marker.texture.data.frombytes(jpeg)
    return marker


def _outline(box: Box | None) -> list[Pixel]:
    if box is None:
        return []
    left, top, right, bottom = box.x, box.y, box.x + box.w, box.y + box.h
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


def _lines(
    number: int, plane: Plane, kind: int, pixels: Iterable[Pixel], colour: Sequence[float]
) -> Marker:
    marker = _marker(DRAWING, number, kind, colour)
    marker.points = [_point(plane.point(pixel, NEARER)) for pixel in pixels]
    marker.scale.x = LINE * plane.distance
    if not marker.points:
        marker.action = Marker.DELETE
    return marker


def _text(number: int, plane: Plane, text: str) -> Marker:
    marker = _marker(DRAWING, number, Marker.TEXT_VIEW_FACING, WHITE)
    size = LETTER * plane.distance
    x, y, z = plane.point((plane.camera.width / 2, float(plane.camera.height)), NEARER)
    position = marker.pose.position
    position.x, position.y, position.z = x, y + size * (1 + text.count("\n")), z
    marker.scale.z, marker.scale.x = size, SPACE * size
    marker.text = text
    if not text:
        marker.action = Marker.DELETE
    return marker


def _marker(namespace: str, number: int, kind: int, colour: Sequence[float]) -> Marker:
    red, green, blue = colour
    marker = Marker(ns=namespace, id=number, type=kind, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    marker.color = ColorRGBA(r=red, g=green, b=blue, a=1.0)
    return marker


def _point(xyz: Sequence[float]) -> Point:
    x, y, z = xyz
    return Point(x=float(x), y=float(y), z=float(z))

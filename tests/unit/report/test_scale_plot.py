from __future__ import annotations

from xml.etree import ElementTree as ET

from pytest_k8snet.record.scale import ScaleRecord, Size
from pytest_k8snet.report.scale_plot import HEIGHT, TOP, scale_plot

SVG = "{http://www.w3.org/2000/svg}"


def record(node: str, *points: tuple[int, float]) -> ScaleRecord:
    sizes = tuple(Size(count, 1, 0.1, 1.0, 1.0, None, tuple([ms] * 99 + [2 * ms]), (0.1,), 0) for count, ms in points)
    return ScaleRecord(node, "node-3", sizes)


def test_a_line_for_each_node_and_share() -> None:
    picture = scale_plot([record("node-1", (10, 0.2), (1000, 0.4)), record("<b>", (10, 0.2), (1000, 0.2))])
    assert picture is not None
    lines = [element.get("points") or "" for element in ET.fromstring(picture).iter(f"{SVG}polyline")]  # noqa: S314 - our own
    assert len(lines) == 4
    heights = [[float(point.split(",")[1]) for point in line.split()] for line in lines]
    assert heights[0][0] > heights[0][1] > heights[1][1] == TOP, "slower is higher, the slowest p99 at the top"
    assert heights[2][0] == heights[2][1] < HEIGHT
    texts = [element.text for element in ET.fromstring(picture).iter(f"{SVG}text")]  # noqa: S314
    assert {"10", "1000", "<b> (p50; p99 dashed)", "frontends", "ms"} <= set(texts)


def test_nothing_to_draw() -> None:
    assert scale_plot([]) is None
    assert scale_plot([record("node-1", (10, 0.2)), record("node-2")]) is None

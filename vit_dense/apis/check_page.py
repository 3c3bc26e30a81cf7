"""Draw a contact sheet of data, and write it with findings and tables as one HTML page."""

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Template  # installed with PyTorch

from ..data.instance_pictures import draw_instances
from ..data.pictures import Picture, complete_palette, legend, overlay, sheet
from ..data.scan import Array
from ..inspection.sheet import caption
from ..runtime.writing import write_picture
from .check_data import all_findings, make_tables
from .data_sources import Source

_PICTURES, _COLUMNS, _WIDTH, _SIDE = 16, 4, 320, 640
_PAGE = """<!doctype html><meta charset="utf-8"><title>{{ title }}</title><style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem }
table { border-collapse: collapse } img { max-width: 100% } code { overflow-wrap: anywhere }
td, th { border-bottom: 1px solid #ddd; padding: .1rem .8rem; text-align: right }
div { border-left: .4rem solid #68a; margin: 1rem 0; padding: 0 1rem }
.error { border-color: #c22 } .warning { border-color: #d90 }
td { background: linear-gradient(to left, #bcd var(--share), transparent var(--share)) }
</style><h1>{{ title }}</h1><h2>Findings: {{ found | length }}</h2>
{% for one in found %}<div class="{{ one.level }}">
<b>{{ one.level }}, {{ one.split }}: {{ one.problem }}: {{ one.count }}</b><br>
{% for path, text in one.examples %}<code>{{ path }}</code> {{ text }}<br>{% endfor %}
{{ one.advice }}</div>{% endfor %}
{% for name, (header, rows) in tables.items() %}<h2>{{ name }}</h2><table>
<tr>{% for text in header %}<th>{{ text }}</th>{% endfor %}</tr>
{% for row in rows %}<tr>{% for text in row %}
<td style="--share: {{ text[:-2] if text.endswith('%') else 0 }}%">{{ text }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endfor %}
<h2>Pictures</h2><img src="data:image/png;base64,{{ picture }}">
"""


def write_report(sources: Sequence[Source], out: str | Path, title: str) -> Path:
    """Write `sheet.png` and `index.html` to the folder `out`; return the path of the page."""
    picture, page = Path(out, 'sheet.png'), Path(out, 'index.html')
    write_picture(picture, contact_sheet(sources))
    text = Template(_PAGE, autoescape=True).render(
        title=title,
        found=all_findings(sources),
        tables=make_tables(sources),
        picture=base64.b64encode(picture.read_bytes()).decode(),
    )
    page.write_text(text, encoding='utf-8')
    return page


def contact_sheet(sources: Sequence[Source]) -> Picture:
    """Draw images with their labels: the examples of findings first, then some of all splits."""
    places: dict[str, tuple[Source, int]] = {}
    owners: dict[str, str] = {}  # image of each mask
    for source in sources:
        scans = enumerate(source.split.images)
        places |= {one.path: (source, index) for index, one in scans if not one.error}
        owners |= dict(zip(source.masks, source.images, strict=False))
    problems: dict[str, str] = {}
    for finding in all_findings(sources):
        for name, _ in finding.examples:
            problems.setdefault(owners.get(name, name), finding.problem)
    flagged = [path for path in problems if path in places][: _PICTURES // 2]
    others = [path for path in places if path not in problems]
    count = min(len(others), _PICTURES - len(flagged))
    spread = np.linspace(0, len(others) - 1, count).round().astype(int).tolist()
    cells = []
    for path in (*flagged, *(others[index] for index in spread)):
        text = f'{places[path][0].split.name}: {Path(path).name}\n{problems.get(path, "")}'
        picture = _draw(*places[path])
        margin = max(0, picture.shape[0] * 4 // 3 - picture.shape[1]) // 2
        picture = np.pad(picture, ((0, 0), (margin, margin), (0, 0)), constant_values=255)
        cells.append(caption(picture, text.strip(), _WIDTH))
    page = sheet(cells or [np.full((_WIDTH, _WIDTH, 3), 255, np.uint8)], _COLUMNS)
    return np.vstack([page, legend(sources[0].split.classes, _palette(sources[0]), page.shape[1])])


def _draw(source: Source, index: int) -> Picture:
    """Draw one image of at most 640 pixels, with its mask or boxes."""
    split, pixels = source.split, np.atleast_3d(source.load(source.images[index]))
    height, width = pixels.shape[:2]
    factor = min(1, _SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    # BGR to RGB; the first channel alone where there are fewer than three.
    pixels = np.ascontiguousarray(pixels[..., (2, 1, 0) if pixels.shape[2] > 2 else (0, 0, 0)])
    image: Array = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        image = ((image - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)
    palette = _palette(source)
    if split.masks and not split.masks[index].error:
        labels = source.read(source.masks[index]).astype(np.int32)
        labels[np.isin(labels, [*split.ignored])] = -1
        return overlay(image, labels, palette)
    boxes = [one for one in split.boxes or () if one.image == index]
    corners = [(x, y, x + w, y + h) for _, _, (x, y, w, h) in boxes]
    edges = np.array(corners, float).reshape(-1, 4) * factor
    return draw_instances(image, edges, [one.label for one in boxes], palette)


def _palette(source: Source) -> list[list[int]]:
    return complete_palette(source.dataset.metainfo.get('palette'), len(source.split.classes))

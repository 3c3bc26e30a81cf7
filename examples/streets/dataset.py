"""Write the demo data set: drawn streets in the layouts of ADE20K and COCO.

    data/demo/
      images/{training,validation}/00000.png             RGB
      annotations/{training,validation}/00000.png        class index per pixel, no void
      annotations/instances_{training,validation}.json   boxes and masks of what can be counted
      finished.json                                      what was written, by which generator

The folder gets its name only when it is complete, so an interrupted run leaves no incomplete data
set behind. The same `DemoSpec` gives the same bytes.
"""

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2

from .canvas import CLASSES
from .coco_format import scenes_to_coco
from .scene import Scene, draw_scene

# Raise it with every change of the drawings: folders of another version are replaced.
GENERATOR_VERSION = 3
MARKER = 'finished.json'
DEFAULT_ROOT = 'data/demo'


@dataclass(frozen=True)
class DemoSpec:
    """What to write.

    Attributes:
        training: Number of training scenes.
        validation: Number of validation scenes.
        height: Rows of a picture in pixels.
        width: Columns of a picture in pixels.
        seed: Seed of the whole data set.
    """

    training: int = 240
    validation: int = 60
    height: int = 128
    width: int = 160
    seed: int = 0

    def __post_init__(self) -> None:
        """Reject splits without scenes."""
        if min(self.training, self.validation) < 1:
            raise ValueError(
                'The demo data set needs at least one training and one validation scene, got '
                f'training={self.training}, validation={self.validation}.'
            )


def write_demo_dataset(root: str | Path = DEFAULT_ROOT, spec: DemoSpec | None = None) -> Path:
    """Write the data set to `root` unless it is there, and return `root`.

    A complete folder of this generator version and `spec` is left as it is.

    Args:
        root: The folder to fill.
        spec: What to write; the defaults of `DemoSpec` if None.

    Raises:
        ValueError: If `root` holds something that this generator did not write.
    """
    root, spec = Path(root), spec or DemoSpec()
    if _is_current(root, spec):
        return root
    if root.exists() and not (root / MARKER).is_file() and any(root.iterdir()):
        raise ValueError(
            f'{root} is not empty and was not written by the demo generator (no {MARKER}). '
            'Name another folder, or move its content away.'
        )
    root.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f'.{root.name}-', dir=root.parent))
    try:
        _write_split(scratch, 'training', spec.training, spec)
        _write_split(scratch, 'validation', spec.validation, spec)
        (scratch / MARKER).write_text(json.dumps(_description(spec), indent=2) + '\n')
        scratch.chmod(0o755)
        _replace(root, scratch, spec)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return root


def _write_split(root: Path, split: str, count: int, spec: DemoSpec) -> None:
    images, annotations = root / 'images' / split, root / 'annotations' / split
    images.mkdir(parents=True)
    annotations.mkdir(parents=True)
    stream = ('training', 'validation').index(split)

    def scenes() -> Iterator[tuple[str, Scene]]:
        for index in range(count):
            scene = draw_scene([spec.seed, stream, index], spec.height, spec.width)
            name = f'{index:05d}.png'
            written = cv2.imwrite(str(images / name), cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR))
            written = cv2.imwrite(str(annotations / name), scene.semantic) and written
            if not written:
                raise OSError(f'Could not write {images / name} or its mask. Is the disk full?')
            yield name, scene

    instances = json.dumps(scenes_to_coco(scenes()))
    (root / 'annotations' / f'instances_{split}.json').write_text(instances)


def _description(spec: DemoSpec) -> dict[str, object]:
    return {'generator': GENERATOR_VERSION, 'classes': list(CLASSES), **asdict(spec)}


def _is_current(root: Path, spec: DemoSpec) -> bool:
    try:
        return bool(json.loads((root / MARKER).read_text()) == _description(spec))
    except (OSError, ValueError):
        return False


def _replace(root: Path, scratch: Path, spec: DemoSpec) -> None:
    """Move `scratch` to `root`; another process may be doing the same."""
    if (root / MARKER).is_file():
        shutil.rmtree(root)
    try:
        os.replace(scratch, root)
    except OSError:
        if not _is_current(root, spec):
            raise


def main(arguments: Sequence[str] | None = None) -> Path:
    """Write what the command line asks for, and return the folder."""
    default = DemoSpec()
    parser = argparse.ArgumentParser(description='Write the demo data set')
    parser.add_argument('--out', default=DEFAULT_ROOT, help='folder to fill')
    parser.add_argument('--train', type=int, default=default.training, help='training scenes')
    parser.add_argument('--val', type=int, default=default.validation, help='validation scenes')
    parser.add_argument('--seed', type=int, default=default.seed)
    args = parser.parse_args(arguments)
    spec = DemoSpec(training=args.train, validation=args.val, seed=args.seed)
    return write_demo_dataset(args.out, spec)

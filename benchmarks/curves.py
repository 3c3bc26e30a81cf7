"""Draw the learning curves of `transfer.py`, a panel for each of its work directories.

    python benchmarks/curves.py out.png 'CamVid, MobileNetV2=work_dirs/mobilenet' ...

Each line is the mean of an arm's finished runs; the band is their standard deviation.
"""

import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLES = {  # Okabe and Ito's colours
    'scratch': ('random start', '#D55E00', '-'),
    'transfer': ('pretrained', '#0072B2', '-'),
    'scratch-frozen': ('random start, frozen', '#D55E00', '--'),
    'transfer-frozen': ('pretrained, frozen', '#0072B2', '--'),
}


def main(out: str, *panels: str) -> None:
    """Write the picture; each panel is TITLE=WORK_DIR."""
    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout='constrained')
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        title, _, folder = panel.rpartition('=')
        draw(axes, title, Path(folder))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside upper center', ncols=2 * len(panels))
    figure.savefig(out, dpi=100)


def draw(axes: Axes, title: str, folder: Path) -> None:
    """Draw mean and spread of the arms whose runs are in a work directory."""
    settings = json.loads((folder / 'settings.json').read_text())
    interval = settings['iterations'] // settings['validations']
    for arm, (label, colour, line) in STYLES.items():
        runs = [json.loads(path.read_text()) for path in folder.glob(f'{arm}-[0-9]*/result.json')]
        if not runs:
            continue
        values = np.array([run['curve'] for run in runs])
        mean, steps = values.mean(0), interval * np.arange(1, values.shape[1] + 1)
        spread = values.std(0, ddof=1) if len(runs) > 1 else np.zeros_like(mean)
        axes.plot(steps, mean, line, color=colour, marker='o', markersize=3, label=label)
        axes.fill_between(steps, mean - spread, mean + spread, color=colour, alpha=0.2)
        axes.set_ylabel('mIoU' if 'mIoU' in runs[0] else 'AP')
    axes.set_title(title, fontsize=10)
    axes.set(xlabel='iteration', xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.3)


if __name__ == '__main__':
    main(*sys.argv[1:])

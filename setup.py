"""Package metadata, dependencies, and the configs that an installed package carries.

There are two kinds of install, because two distributions provide the folder `mmcv/`:

    pip install 'vit_dense[seg]'         # mmcv-lite: wheels only, no compiler
    pip install 'vit_dense[seg-mmcv]'    # keeps an installed mmcv with compiled ops

`mmcv-lite` installed over a compiled `mmcv` would overwrite its Python files, so the `-mmcv`
extras require no mmcv: install it yourself. `det` and `all` work alike. The tested versions are in
requirements/constraints.txt: add `-c requirements/constraints.txt` to either command.

The maintained forks (onedl-mmengine, onedl-mmcv, ...) share the import names, but satisfy none of
the requirements below. With them, run `pip install --no-deps vit_dense` and install timm.
"""

import runpy
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # build backends run this file without its folder on the path
from build_support.flatten_configs import generate  # noqa: E402

PACKAGE = 'vit_dense'

CORE = [
    'torch>=2.6',  # safe_globals by name, which reading checkpoints safely needs
    'torchvision>=0.21',
    # Earlier ones place rectangular position grids wrongly; private names may change in 1.1.
    'timm>=1.0.31,<1.1',
    'mmengine>=0.10.7,<1',
    'numpy',
    'opencv-python',
    'safetensors',
    'setuptools<82',  # mmengine imports pkg_resources at run time
]
# mmseg imports ftfy and regex without requiring them.
SEG = ['mmsegmentation>=1.2.2,<2', 'ftfy', 'regex']
DET = ['mmdet>=3.3.0,<4']
MMCV_LITE = ['mmcv-lite>=2.1.0,<2.2']  # mmseg and mmdet refuse 2.2
# LoRA: maintained, merges weights, and offers later variants such as DoRA. It depends on
# transformers and accelerate, so it is an extra.
PEFT = ['peft>=0.17']
# Exported files: torch's exporter writes ONNX through onnxscript; two engines run the result.
EXPORT = ['onnx', 'onnxscript', 'onnxruntime', 'openvino']
# Windowed reading and writing of rasters, with their georeference.
GEO = ['rasterio']
# Detection in slices of large images: cuts and merges as published (MIT).
SLICE = ['sahi>=0.12.8']
# The page of `vit-dense serve`. Earlier versions of Gradio have known vulnerabilities.
WEB = ['gradio>=6']
# Experiment trackers, through mmengine's own backends (`train --track NAME`).
TRACK = ['mlflow', 'tensorboard', 'wandb']
# Deformable attention as a Triton kernel, for GPUs (MIT). ms-deform-attn is built for one torch.
GPU = ["deformops>=3.0.1; python_version >= '3.12'"]
# The site in docs/: MkDocs with the theme Material; API pages from docstrings.
DOCS = ['mkdocs-material', 'mkdocstrings[python]']
DEV = [
    *EXPORT,
    *GEO,
    *SLICE,
    *WEB,
    # MLflow without its server, and what its local database needs.
    'mlflow-skinny',
    'sqlalchemy',
    'alembic',
    'wandb',
    'build',
    'mypy',
    'packaging',
    'playwright',  # drives Chromium, where the system has it, in the tests of the page
    'pytest',
    'pytest-xdist',  # runs the tests in several processes
    'ruff',
    'scikit-learn',  # the colour classifier of benchmarks/colour_baseline.py
    'tensorboard',
    'wheel',  # tests build the package without network
]


class BuildPy(build_py):
    """Add the configs derived from `configs/` to the build."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            generate(ROOT / 'configs', Path(self.build_lib, PACKAGE))
            return
        generate(ROOT / 'configs', ROOT / PACKAGE)
        # mmengine looks for a package beside its metadata, in site-packages, where an editable
        # install puts no files. So the configs are written there, too. Imports still find the
        # checkout: a folder without `__init__.py` yields to a package further down `sys.path`.
        site_packages = Path(self.get_finalized_command('install').install_lib)
        generate(ROOT / 'configs', site_packages / PACKAGE)


readme = ROOT / 'README.md'
setup(
    name=PACKAGE,
    version=runpy.run_path(str(ROOT / PACKAGE / 'version.py'))['__version__'],
    description='Any timm ViT as a backbone for mmsegmentation and mmdetection, by config alone.',
    long_description=readme.read_text(encoding='utf-8') if readme.exists() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    classifiers=[
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
    python_requires='>=3.10',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    # Named, so that an editable install is one line in a .pth file, behind site-packages.
    package_dir={'': '.'},
    package_data={PACKAGE: ['py.typed']},
    install_requires=CORE,
    extras_require={
        'seg': SEG + MMCV_LITE,
        'det': DET + MMCV_LITE,
        'all': SEG + DET + MMCV_LITE,
        'seg-mmcv': SEG,
        'det-mmcv': DET,
        'all-mmcv': SEG + DET,
        'peft': PEFT,
        'export': EXPORT,
        'geo': GEO,
        'slice': SLICE,
        'web': WEB,
        'track': TRACK,
        'gpu': GPU,
        'docs': DOCS,
        'dev': DEV,
    },
    entry_points={'console_scripts': ['vit-dense = vit_dense.cli:main']},
    cmdclass={'build_py': BuildPy},
)

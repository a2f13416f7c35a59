"""Apache Beam transforms: each a thin shell around the NumPy code in `beam_coresets`."""
if __name__ != "beam_coresets.transforms":
    raise ImportError(f"import name: must be beam_coresets.transforms, got {__name__}")

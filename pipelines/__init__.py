"""Runnable jobs, one module a word of the `beam-coresets` command."""
if __name__ != "beam_coresets.pipelines":
    raise ImportError(f"import name: must be beam_coresets.pipelines, got {__name__}")

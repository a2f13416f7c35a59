"""All formats of files, by name."""
from beam_coresets.transforms.reading.formats import (
    AVRO,
    NPY,
    PARQUET,
)
from beam_coresets.transforms.reading.text_formats import CSV, JSON_LINES, TEXT

FILE_FORMATS = {"parquet": PARQUET, "csv": CSV, "text": TEXT, "avro": AVRO, "jsonl": JSON_LINES, "npy": NPY}

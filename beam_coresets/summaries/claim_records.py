"""Claims as they are stored: what names a decided window, and what its files are held against.

`.claims/WINDOW.json` says where the files of a decided window are, or will be once they are moved out of
`.staging/WINDOW/ATTEMPT/`, and their digests.
"""
from __future__ import annotations

import hashlib
import json
import re
from typing import Any

FOLDERS = (".claims", ".staging")
CLAIM_VERSION = 1  # of a claim's JSON; a claim without a number is of this one

Claim = dict[str, Any]


def is_claim(name: str) -> bool:
    """Whether a file in `.claims` is a window's claim."""
    return name.endswith(".json") and not name.startswith(".")


def parsed(data: bytes, path: str) -> Claim:
    """The claim in a file.

    Raises:
      json.JSONDecodeError: it is not whole (yet).
      ValueError: a claim of another version.
    """
    found: Claim = json.loads(data)
    if (version := found.get("version", CLAIM_VERSION)) != CLAIM_VERSION:
        raise ValueError(f"output: must hold claims of version {CLAIM_VERSION}, got {version!r} in {path!r}")
    return found


def staged(claim: Claim, table: str) -> tuple[str, ...]:
    """The parts of the path, below the output folder, of a claimed file that is not moved yet."""
    return FOLDERS[1], claim["window"], claim["staging"], f"{table}.{claim['form']}"


def as_claimed(data: bytes, file: dict[str, Any], path: str, table: str) -> bytes:
    """A file's content, held against its claim.

    Raises:
      ValueError: it is not what was written.
    """
    if digest(data) != file.get("digest", digest(data)):
        raise ValueError(f"{table}: must be as it was written, got {path!r} changed or damaged since")
    return data


def digest(data: bytes) -> str:
    """What a file's content is told by."""
    return hashlib.sha256(data).hexdigest()


def place_of(name: str) -> tuple[float, float, str, int, str]:
    """Sorts the names of windows, and of their files, by start, end, key and revision; others come first, by name."""
    found = re.fullmatch(r"(?:(.*)-)?(?:global|(-?[0-9.]+)-(-?[0-9.]+))-r(\d+)(?:\.\w+)?", name.rsplit("/", 1)[-1])
    if found is None:
        return float("-inf"), float("-inf"), "", 0, name
    key, start, end, revision = found.groups()
    if start is None:
        return float("-inf"), float("inf"), key or "", int(revision), name
    return float(start), float(end), key or "", int(revision), name

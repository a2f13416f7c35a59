"""What a package offers under its own name, loaded on first use (PEP 562)."""
import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

_EXTRAS = {"confluent_kafka": "kafka"}  # a module that may not be installed -> the extra that brings it


def front_door(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package.

    Args:
      package: its name.
      homes: name that it offers -> the module that has it.
    """

    def getattribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            value = getattr(importlib.import_module(homes[name]), name)
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get((error.name or "").split(".")[0])
            if extra is None:
                raise
            asked = f"the extra {extra} (pip install 'beam-coresets[{extra}]')"
            raise ImportError(f"{name}: must have {asked}, got no module {error.name}") from error
        setattr(sys.modules[package], name, value)  # found without this function from now on
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return getattribute, names

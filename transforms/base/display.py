"""Display data: a transform's parameters as a runner's console shows them."""
import dataclasses
from typing import Any

_PLAIN = (str, int, float)


def shown(**parameters: Any) -> dict[str, Any]:
    """Parameters by name, as Beam takes them: those that are None are left out, numbers and text stay, others become
    text. A dataclass stands for its fields, without its functions."""
    found: dict[str, Any] = {}
    for name, value in parameters.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            found |= shown(**{field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
        elif value is not None and not callable(value):
            found[name] = value if isinstance(value, _PLAIN) else str(value)
    return found

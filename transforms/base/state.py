"""Values that Beam keeps for a key in one state cell, each as the text that it writes itself."""
from typing import Any, Protocol, TypeVar


class _AsText(Protocol):
    def to_json(self) -> str: ...

    @staticmethod
    def from_json(text: str) -> Any: ...


T = TypeVar("T", bound=_AsText)


def read_state(cell: Any, kind: type[T]) -> T | None:
    """The value of a `ReadModifyWriteStateSpec` cell of bytes; None if nothing has been written."""
    held = cell.read()
    return None if held is None else kind.from_json(held.decode())


def write_state(cell: Any, value: _AsText) -> None:
    """Replaces the value of such a cell."""
    cell.write(value.to_json().encode())

"""Parameters, declared once: a field of a dataclass says its name, type, default, help, and how it is read.

The command line, a `--config` file, Beam YAML and the templates' metadata are made from these fields:

    @dataclasses.dataclass(frozen=True)
    class Options:
        shards: int = declare(8, "that rows are assigned to", group="summary")

    of_words(Options, ["--shards", "6"])        # through `add_parameters`, an argparse parser
    of_values(Options, {"shards": 6})           # from YAML

Types are int, float, str, bool (a flag), `Seconds`, tuples of these (texts with commas, or lists), and these or None.
"""
from __future__ import annotations

import argparse
import dataclasses
import functools
import numbers
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

from beam_coresets.times import length_of_time

Seconds = Annotated[float, "seconds"]  # a length of time; people write "500ms", "5s" or "2m"

INT, NUMBER, TIME = "-?[0-9]{1,18}", "-?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]+)?", "[0-9]+([.][0-9]+)?(ms|s|m|h|d)?"
_KEY, _LONG = "parameter", "a whole number of 64 bits"
_WHAT = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
_PATTERNS = {int: INT, float: NUMBER, Seconds: TIME, str: ".+", bool: "(true|false)"}


@dataclasses.dataclass(frozen=True)
class Parameter:
    """What a field was declared with.

    Attributes:
      name: the field's.
      kind: its type, without None.
      default: its value where it is not given.
      help: what people read.
      group: the heading that it stands under.
      choices: the texts that it may be; () for any.
      several: takes several words on a command line.
      read: text -> value, in place of the type's own; it raises argparse.ArgumentTypeError.
      pattern: an extended regular expression that one word matches.
      metavar: what stands for the value in a command's help.
      least: the smallest number that it may be (`check_values`); None for any.
      spelled: another name on the command line ("from" for start).
      column: the table `summaries` has a column of this name for it (`beam_coresets.table_schemas`).
    """

    name: str
    kind: Any
    default: Any
    help: str
    group: str = ""
    choices: tuple[str, ...] = ()
    several: bool = False
    read: Callable[[str], Any] | None = None
    pattern: str = ""
    metavar: str | None = None
    least: float | None = None
    spelled: str = ""
    column: bool = False

    @property
    def option(self) -> str:
        """As it is typed: with dashes."""
        return "--" + (self.spelled or self.name).replace("_", "-")

    @property
    def flag(self) -> bool:
        """Whether it is given without a value."""
        return self.kind is bool and self.read is None

    def of_text(self, text: str) -> Any:
        """The value of one word. Raises argparse.ArgumentTypeError where it is none."""
        if self.choices and text not in self.choices:
            raise argparse.ArgumentTypeError(f"must be one of {', '.join(self.choices)}, got {text!r}")
        if self.read is not None:
            return self.read(text)
        item = _item(self.kind)
        if item is not None and not self.several:
            return tuple(_of_text(item, part.strip()) for part in text.split(",") if part.strip())
        return _of_text(self.kind if item is None else item, text)

    def of_value(self, value: Any) -> Any:
        """The value of what YAML holds. Raises ValueError where it is none."""
        if self.several and isinstance(value, str):
            value = [value]
        if self.several and value in ([], ()):
            raise ValueError(f"{self.name}: must have at least one value, got none")
        if self.read is not None:
            return self._read_value(value)
        read = _of_value(self.name, self.kind, value)
        if self.choices and read not in self.choices:
            raise ValueError(f"{self.name}: must be one of {', '.join(self.choices)}, got {value!r}")
        return read

    def _read_value(self, value: Any) -> Any:
        assert self.read is not None
        try:
            if not self.several:
                return self.read(",".join(map(str, value)) if isinstance(value, list) else str(value))
            if not isinstance(value, Sequence):
                raise ValueError(f"{self.name}: must be a list, got {value!r}")
            return tuple(self.read(str(each)) for each in value)
        except argparse.ArgumentTypeError as error:
            raise ValueError(f"{self.name}: {error}") from None

    @property
    def regex(self) -> str:
        """An anchored extended regular expression for the text of it, several words separated by spaces."""
        if self.choices:
            return f"^({'|'.join(self.choices).replace('.', '[.]')})$"
        item = _item(self.kind)
        one = self.pattern or _PATTERNS[self.kind if item is None else item]
        if item is not None and not self.several and not self.pattern:
            one = "[^,]+(,[^,]+)*" if item is str else f"{one}(,{one})*"
        if self.several and one != ".+":
            return f"^{one}( {one})*$"
        return f"^({one})$" if "|" in one and not one.startswith("(") else f"^{one}$"


def declare(default: Any, help: str, **more: Any) -> Any:
    """A dataclass field that is a parameter.

    Args:
      default: its value where it is not given; None for none.
      help: what people read of it: a phrase, with a default that the value does not tell in brackets.
      more: see `Parameter`.
    """
    return dataclasses.field(default=default, metadata={_KEY: {"help": help, **more}})


def declared_as(kind: type, name: str, default: Any, **more: Any) -> Any:
    """The field of a dataclass once more, with another default where it is used: a command's, say."""
    (field,) = (field for field in dataclasses.fields(kind) if field.name == name)
    return dataclasses.field(default=default, metadata={_KEY: {**field.metadata[_KEY], **more}})


@functools.lru_cache(maxsize=64)
def parameters(kind: type) -> tuple[Parameter, ...]:
    """The parameters among a dataclass's fields, in their order."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return tuple(
        Parameter(field.name, without_none(hints[field.name]), field.default, **field.metadata[_KEY])
        for field in dataclasses.fields(kind)
        if _KEY in field.metadata
    )


def described(kind: type) -> type:
    """Puts what was declared into a class's docstring, as its attributes; a decorator above `dataclass`."""
    lines = [f"      {p.name}: {p.help}." for p in parameters(kind)]
    kind.__doc__ = (kind.__doc__ or "").replace("    Attributes:\n", "    Attributes:\n" + "\n".join(lines) + "\n", 1)
    return kind


def add_parameters(parser: argparse.ArgumentParser, kind: type, defaults: bool = False) -> None:
    """Adds an option for each parameter, under its group's heading.

    Args:
      defaults: for Beam's options, which must be what JSON holds: options that are not given have their defaults, and
        lists stand for tuples. Else what is not given is absent from the result.
    """
    groups: dict[str, Any] = {"": parser}
    for parameter in parameters(kind):
        group = groups.get(parameter.group)
        if group is None:
            group = groups[parameter.group] = parser.add_argument_group(parameter.group)
        options: dict[str, Any] = {"dest": parameter.name, "help": help_of(parameter).replace("%", "%%")}
        options["default"] = _listed(parameter.default) if defaults else argparse.SUPPRESS
        if parameter.flag:
            options["action"] = "store_true"
        else:
            read = functools.partial(_listed_of_text, parameter) if defaults else parameter.of_text
            options |= {"type": read, "choices": parameter.choices or None, "metavar": parameter.metavar}
            if parameter.several:
                options |= {"nargs": "+", "action": "extend"}
        spellings = dict.fromkeys((parameter.option, parameter.option[:2] + parameter.option[2:].replace("-", "_")))
        group.add_argument(*(spellings if defaults else [parameter.option]), **options)


def _listed_of_text(parameter: Parameter, text: str) -> Any:
    return _listed(parameter.default if text == parameter.default else parameter.of_text(text))


def _listed(value: Any) -> Any:
    return list(map(_listed, value)) if isinstance(value, tuple) else value


def help_of(parameter: Parameter) -> str:
    """What people read of a parameter, with its default."""
    said = "default" in parameter.help
    if said or parameter.flag or parameter.default in (None, "", ()):
        return parameter.help
    shown = shown_time(parameter.default) if parameter.kind is Seconds else parameter.default
    return f"{parameter.help} (default: {shown})"


def shown_time(length: float) -> str:
    """A length of time as people write it: 30d, 60s, 500ms."""
    for unit, seconds in (("d", 86400.0), ("s", 1.0)):
        if length >= seconds and length % seconds == 0:
            return f"{length / seconds:g}{unit}"
    return f"{1000 * length:g}ms"


def of_values(kinds: Iterable[Parameter], given: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """What YAML says of some parameters; those that are null are left out, dashes in names are underscores.

    Args:
      where: what the values stand in, for messages.

    Raises:
      ValueError: an unknown name, or a value of another type, as `name: requirement, got value`.
    """
    known = {parameter.spelled or parameter.name: parameter for parameter in kinds}
    out: dict[str, Any] = {}
    for written, value in given.items():
        parameter = known.get(str(written).replace("-", "_"))
        if parameter is None:
            names = ", ".join(sorted(known))
            raise ValueError(f"{written}: must be one of the options{where} ({names}), got {value!r}")
        name = parameter.name
        if name in out:
            raise ValueError(f"{name}: must be given once{where}, got it with dashes and with underscores")
        if value is not None:
            out[name] = parameter.of_value(value)
    return out


def check_values(value: Any, kind: type) -> None:
    """Holds an object to the declaration of its parameters: types, choices, and the least that they may be.

    Raises:
      TypeError: a value of another type.
      ValueError: a number out of range, or a text that is none of the choices.
    """
    for parameter in parameters(kind):
        name, got = parameter.name, getattr(value, parameter.name)
        if got is None or got == parameter.default:
            continue
        item = _item(parameter.kind)
        if item is not None and not isinstance(got, tuple | list):
            raise TypeError(f"{name}: must be a tuple, got {got!r}")
        for each in [got] if item is None else got:
            _check_value(name, parameter.kind if item is None else item, each)
        if parameter.choices and got not in parameter.choices:
            raise ValueError(f"{name}: must be one of {', '.join(parameter.choices)}, got {got!r}")
        if parameter.least is not None and not got >= parameter.least:
            raise ValueError(f"{name}: must be at least {parameter.least:g}, got {got}")


def _check_value(name: str, kind: Any, got: Any) -> None:
    """Raises TypeError unless a value is of a type that is declared so, NumPy's numbers included; ValueError for a NaN
    and for whole numbers that tables do not hold."""
    base = float if kind is Seconds else kind
    wanted: Any = {int: numbers.Integral, float: numbers.Real, str: str, bool: bool}.get(base)
    if wanted is None:
        return
    if not isinstance(got, wanted) or (isinstance(got, bool) and base is not bool):
        raise TypeError(f"{name}: must be {_WHAT[base]}, got {got!r}")
    if got != got:
        raise ValueError(f"{name}: must be a number, got {got}")
    if base is int and not _fits(got):
        raise ValueError(f"{name}: must be {_LONG}, got {got}")


def part_of(kind: type, given: Mapping[str, Any], *left_out: str) -> dict[str, Any]:
    """Those of the given values that are fields of a dataclass, for its constructor."""
    names = {field.name for field in dataclasses.fields(kind)} - set(left_out)
    return {name: value for name, value in given.items() if name in names}


def without_none(kind: Any) -> Any:
    """The type itself of one that may be None."""
    if not isinstance(kind, types.UnionType) and typing.get_origin(kind) is not typing.Union:
        return str if typing.get_origin(kind) is typing.Literal else kind
    kinds = [each for each in typing.get_args(kind) if each is not types.NoneType]
    return kinds[0] if len(kinds) == 1 else kind


def _item(kind: Any) -> Any:
    """The type of a tuple's items; None for other types."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else None


def _of_text(kind: Any, text: str) -> Any:
    if kind is Seconds:
        try:
            return length_of_time(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a time such as 500ms, 5s or 2m, got {text!r}") from None
    try:
        found = kind(text)
    except ValueError:
        found = None
    if not _is_one(found, kind):
        raise argparse.ArgumentTypeError(f"must be {_WHAT[kind]}, got {text!r}")
    if kind is int and not _fits(found):
        raise argparse.ArgumentTypeError(f"must be {_LONG}, got {text}")
    return found


def _is_one(value: Any, kind: type) -> bool:
    """Whether a value is of a type, and no NaN."""
    return type(value) is kind and bool(value == value)


def _fits(value: int) -> bool:
    """Whether tables hold a whole number."""
    return -(1 << 63) <= value < 1 << 63


def _of_value(name: str, kind: Any, value: Any) -> Any:
    item = _item(kind)
    if item is not None:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ValueError(f"{name}: must be a list, got {value!r}")
        return tuple(_of_value(name, item, each) for each in value)
    if kind is Seconds:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        try:
            return length_of_time(value)
        except (ValueError, AttributeError, TypeError):
            raise ValueError(f"{name}: must be a time such as 500ms, 5s or 2m, got {value!r}") from None
    if kind is float and type(value) is int:
        return float(value)
    if not _is_one(value, kind):
        raise ValueError(f"{name}: must be {_WHAT[kind]}, got {value!r}")
    if kind is int and not _fits(value):
        raise ValueError(f"{name}: must be {_LONG}, got {value}")
    return value

"""Which Iceberg catalog is meant, and what may be said of it: no message holds a password."""
import contextlib
import dataclasses
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from beam_coresets.transforms.writing import atomic_files

_PAIR = re.compile(r"[\w.-]+=")
_SECRET = re.compile(r"password|secret|token|credential|key|sas", re.I)
_IN_URIS = (
    (re.compile(r"(://[^/@\s:]*:)[^/@\s]*@"), r"\1***@"),
    (re.compile(r"([?&;](?:password|pwd|secret|token|sig)=)[^&;\s]*", re.I), r"\1***"),
)


class CatalogError(RuntimeError):
    """A catalog that does not answer, or takes no commit. The message is a line and holds no password."""


class RefusalError(ValueError):
    """What a catalog or a table can't take, though it answers. The message is a line and holds no password."""


@dataclasses.dataclass(frozen=True)
class CatalogSettings:
    """An Iceberg catalog: its name, and pyiceberg's properties for it, which may hold passwords and are never shown."""

    name: str
    properties: Mapping[str, Any] = dataclasses.field(repr=False)

    def open(self) -> Any:
        """The catalog.

        Raises:
          ValueError: properties that make no catalog.
          CatalogError: it does not answer.
        """
        from pyiceberg.catalog import load_catalog
        from pyiceberg.exceptions import NotInstalledError

        with self.asked():
            try:
                return load_catalog(self.name, **self.properties)
            except (ValueError, NotInstalledError, ImportError) as error:
                raise RefusalError(f"catalog: must have the properties of a catalog, got {self.said(error)}") from None
            except Exception:  # a new SQL catalog, whose own tables somebody else just makes
                time.sleep(0.2)
                return load_catalog(self.name, **self.properties)

    @contextlib.contextmanager
    def asked(self) -> Iterator[None]:
        """Within it whatever a catalog's client raises is a CatalogError; a RefusalError stays one.

        Raises:
          CatalogError: the catalog does not answer.
        """
        try:
            yield
        except (RefusalError, CatalogError):
            raise
        except Exception as error:  # each kind of catalog has errors of its own
            raise CatalogError(f"catalog: must answer, got {self.said(error)} from {self.name!r}") from None

    def said(self, error: BaseException) -> str:
        """The first line of what an error says, without what is secret."""
        text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        for secret in _secrets(self.properties):
            text = text.replace(secret, "***")
        for pattern, shown in _IN_URIS:
            text = pattern.sub(shown, text)
        return text[:300]


def _secrets(properties: Mapping[str, Any], below: bool = False) -> Iterator[str]:
    """The values that nobody is to read, those in sections (`auth`) too."""
    for name, value in properties.items():
        secret = below or _SECRET.search(name) is not None
        if isinstance(value, Mapping):
            yield from _secrets(value, secret)
        elif secret and value:
            yield str(value)


def catalog_settings(words: Sequence[str], option: str = "catalog") -> CatalogSettings:
    """The catalog that an option names, as this machine knows it: workers elsewhere need no file of settings.

    Args:
      words: a name that pyiceberg's settings have (`~/.pyiceberg.yaml`, `PYICEBERG_CATALOG__...`), a URI, a `.json`
        file of pyiceberg's properties, or the properties themselves, NAME=VALUE each, several with commas between
        them. A property `name` is the catalog's name.
      option: what it is called, for messages.

    Raises:
      ValueError: none that is known, or pyiceberg is not installed.
    """
    require_pyiceberg(option)
    pairs = [pair for word in words for pair in re.split(rf",(?={_PAIR.pattern})", word)]
    found: dict[str, Any]
    if all(_PAIR.match(pair) for pair in pairs):
        found = dict(pair.split("=", 1) for pair in pairs)
    elif len(words) != 1:
        raise ValueError(f"{option}: must be one name, URI or file, or NAME=VALUE pairs, got {len(words)} words")
    elif words[0].endswith(".json"):
        found = _of_file(words[0], option)
    elif "://" in words[0]:
        found = {"uri": words[0]}
    else:
        found = _of_pyiceberg(words[0], option)
    name = str(found.pop("name", "default"))
    return CatalogSettings(name, found)


def require_pyiceberg(option: str) -> None:
    """Raises ValueError where pyiceberg is not installed."""
    try:
        import pyiceberg.catalog  # noqa: F401
    except ImportError as error:
        raise ValueError(f"{option}: must have the extra (pip install 'beam-coresets[iceberg]'), got none") from error


def _of_file(path: str, option: str) -> dict[str, Any]:
    try:
        held = json.loads(atomic_files.read(path))
        return {str(name): value if isinstance(value, dict) else str(value) for name, value in held.items()}
    except (OSError, ValueError, AttributeError):  # the content is nobody's business
        raise ValueError(f"{option}: must be a JSON file with an object of properties, got {path!r}") from None


def _of_pyiceberg(name: str, option: str) -> dict[str, Any]:
    from pyiceberg.utils.config import Config

    config = Config()
    held = config.get_catalog_config(name)
    if held is None:
        known = ", ".join(sorted(config.config.get("catalog") or ())) or "none"
        raise ValueError(
            f"{option}: must be one that pyiceberg's settings name ({known}), a URI, NAME=VALUE pairs or a .json file, "
            f"got {name!r}"
        )
    return {"name": name, **held}

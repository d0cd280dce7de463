"""Base of all settings, and the reading of files of them."""

from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mrisr.core.errors import InputError
from mrisr.core.shipped import shipped

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error rather than a silent no-op."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def dump(self) -> str:
        """Resolved settings as YAML."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def _merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in change.items():
        old = out.get(key)
        out[key] = (
            _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
        if value is None:
            del out[key]  # back to the default
    return out


def read_mapping(path: Path, children: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read the settings of a YAML file as they stand, its ``base`` resolved. A relative path that begins with
    ``configs/`` and leads nowhere is that of a file of the installation. Raises InputError."""
    if path.parts[:1] == ("configs",) and not path.exists():
        path = shipped("configs").joinpath(*path.parts[1:])
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, expected="a readable YAML file", found=str(error)) from error
    except yaml.YAMLError as error:
        raise InputError(path, expected="YAML", found=" ".join(str(error).split())) from error
    if not isinstance(content, dict):
        raise InputError(path, expected="a mapping of settings", found=type(content).__name__)
    base = content.pop("base", None)
    if base is None:
        return content
    children = (*children, path.resolve())
    if not isinstance(base, str) or (path.parent / base).resolve() in children:
        raise InputError(path, expected="a base that is another file", found=repr(base))
    return _merged(read_mapping(path.parent / base, children), content)


AnySettings = TypeVar("AnySettings", bound=Settings)


def load_settings(path: str | Path, kind: type[AnySettings]) -> AnySettings:
    """Read a YAML file of settings of the given kind, its ``base`` resolved.

    Raises:
        InputError: the file is missing, is not YAML, or a setting is unknown or out of range.
    """
    return checked(path, read_mapping(Path(path)), kind)


def checked(path: str | Path, content: dict[str, Any], kind: type[AnySettings]) -> AnySettings:
    """Check the settings of a file. Raises InputError that names the file and the first wrong setting."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        found = "none" if first["type"] == "missing" else f"{first['input']!r} ({first['msg']})"
        raise InputError(path, expected=f"a valid setting {where}", found=found) from error

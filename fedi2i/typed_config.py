"""Load mappings and YAML files into typed, frozen records; unknown keys are errors.

A record is a frozen dataclass. OmegaConf checks the types; this module turns its complaints into
one sentence that names the key and, for an unknown key, the nearest known one.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedi2i.errors import ConfigError

Record = TypeVar("Record")


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint naming the known word nearest to ``name``, or all known words when none is near."""
    words = sorted(known)
    close = difflib.get_close_matches(name, words, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(words)}"


def choose(value: str, known: Iterable[str], key: str) -> str:
    """Return ``value`` if it is one of ``known``.

    Raises:
        ConfigError: it is not; the sentence suggests the nearest known value.
    """
    words = list(known)
    if value not in words:
        raise ConfigError(f"{key}: unknown value '{value}'; {nearest(value, words)}")
    return value


@dataclasses.dataclass(frozen=True)
class Allowed:
    """What a setting may be; stands at the field that it belongs to.

    Attributes:
        low: smallest number; itself allowed unless ``above`` is true.
        high: numbers must stay below it.
        most: largest number, itself allowed.
        above: whether ``low`` itself is refused.
        words: the allowed words, for settings that are no numbers.
        or_path: whether the dotted path of a class is allowed in place of a word.
        meaning: what the setting does, in a few words, for the tables in the documents.
    """

    low: float = -math.inf
    high: float = math.inf
    most: float = math.inf
    above: bool = False
    words: tuple[str, ...] = ()
    meaning: str = ""
    or_path: bool = False

    def check(self, value: object, key: str) -> None:
        """Refuse a value out of range; a value that is not set is allowed.

        Raises:
            ConfigError: naming the key, the value and what is allowed.
        """
        if self.words:
            if not (self.or_path and "." in str(value)):
                choose(str(value), self.words, key)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            inside = self.low < value if self.above else self.low <= value
            if not (
                inside and value < self.high and value <= self.most
            ):  # also refuses nan and infinity
                raise ConfigError(f"{key} is {value}; it must be {self.describe()}")

    def describe(self) -> str:
        """The range or the words, as they follow "it must be"."""
        if self.words:
            path = ", or the dotted path of a class" if self.or_path else ""
            return f"one of {', '.join(self.words)}{path}"
        if math.isfinite(self.most):
            low = f"above {self.low:g} and at most" if self.above else f"from {self.low:g} to"
            return f"{low} {self.most:,.10g}"
        if math.isinf(self.high):
            return f"finite and {'above' if self.above else 'not below'} {self.low:g}"
        return f"in {'(' if self.above else '['}{self.low:g}, {self.high:g})"


_ALLOWED = "allowed"
_LEFT_OUT = "left out while unset"
LEFT_OUT_WHILE_UNSET: Mapping[str, Any] = {_LEFT_OUT: True}
"""Metadata of a field that `as_dict` leaves out while it has its default.
What was added later then changes no file and no hash of those who do not use it."""


def number(
    default: float,
    *,
    low: float = 0.0,
    high: float = math.inf,
    most: float = math.inf,
    above: bool = False,
    meaning: str = "",
    left_out: bool = False,
) -> Any:
    """A field of a record that holds a number: its default, its range and its meaning.

    ``left_out``: see LEFT_OUT_WHILE_UNSET.
    """
    return _field(default, Allowed(low, high, most, above, meaning=meaning), left_out)


def word(
    default: str,
    *words: str,
    meaning: str = "",
    left_out: bool = False,
    or_path: bool = False,
) -> Any:
    """A field of a record that holds one of some words.

    ``left_out``: see LEFT_OUT_WHILE_UNSET; ``or_path``: see ``Allowed``.
    """
    return _field(default, Allowed(words=words, meaning=meaning, or_path=or_path), left_out)


def _field(default: object, allowed: Allowed, left_out: bool) -> Any:
    more = LEFT_OUT_WHILE_UNSET if left_out else {}
    return dataclasses.field(default=default, metadata={_ALLOWED: allowed, **more})


def switch(default: bool, *, meaning: str = "") -> Any:
    """A field of a record that is true or false."""
    return dataclasses.field(default=default, metadata={_ALLOWED: Allowed(meaning=meaning)})


def allowed_values(record_type: type[Any]) -> Iterator[tuple[dataclasses.Field[Any], Allowed]]:
    """The fields of a record that say what they may be, in order."""
    for field in dataclasses.fields(record_type):
        if _ALLOWED in field.metadata:
            yield field, field.metadata[_ALLOWED]


def check_values(record: Any, where: str, prefix: str = "") -> None:
    """Hold every value of a record, and of the records in it, against what its field allows.

    Args:
        record: a dataclass.
        where: the file or argument the values came from, for messages.
        prefix: dotted path of the record inside its file, ending in a dot.

    Raises:
        ConfigError: naming the first value that is out of range.
    """
    for field in dataclasses.fields(record):
        value, key = getattr(record, field.name), f"{prefix}{field.name}"
        if _ALLOWED in field.metadata:
            field.metadata[_ALLOWED].check(value, f"{where}: {key}")
        elif dataclasses.is_dataclass(value):
            check_values(value, where, f"{key}.")


def record_from(
    record_type: type[Record], values: Mapping[str, Any], where: str, prefix: str = ""
) -> Record:
    """Build a frozen record from a mapping, checking keys and types.

    Args:
        record_type: a frozen dataclass; nested dataclasses are filled recursively.
        values: keys and values that differ from the record's defaults.
        where: the file or argument the mapping came from, for error messages.
        prefix: dotted path of the mapping inside its file, ending in a dot.

    Raises:
        ConfigError: an unknown key, a missing key, a value of the wrong type or a reference.
    """
    _refuse_unknown_keys(record_type, values, where, prefix)
    refuse_references(values, where)
    schema = OmegaConf.structured(record_type)
    try:
        merged = OmegaConf.merge(schema, OmegaConf.create(dict(values)))
        return cast(Record, OmegaConf.to_object(merged))
    except (OmegaConfBaseException, TypeError) as error:
        key = getattr(error, "full_key", None) or _wrong_key(schema, values)
        reason = str(getattr(error, "msg", None) or error).splitlines()[0]
        if "is not a TupleConfig" in reason:
            reason = "write a list, e.g. [a, b]"
        elif "$VALUE" in reason:  # a sentence that OmegaConf has left without its words
            reason = "a value in it is of another kind than it holds"
        raise ConfigError(f"{where}: key '{prefix}{key}': {reason}") from error


def _wrong_key(schema: Any, values: Mapping[str, Any]) -> str:
    """The first key whose value does not fit by itself, where OmegaConf does not say which."""
    for key, value in values.items():
        try:
            OmegaConf.merge(schema, OmegaConf.create({key: value}))
        except (OmegaConfBaseException, TypeError):
            return str(key)
    return "?"


def refuse_references(values: Any, where: str) -> None:
    """Refuse texts that OmegaConf would replace, by a variable of the environment for one.

    Whoever writes a file or a job that others run must not read the environment of their processes.

    Args:
        values: what a file holds, before references are followed.
        where: the file or argument, for messages.

    Raises:
        ConfigError: a text or a key holds ``${``.
    """
    if isinstance(values, Mapping):
        for key, value in values.items():
            refuse_references(key, where)
            refuse_references(value, where)
    elif isinstance(values, list | tuple):
        for value in values:
            refuse_references(value, where)
    elif isinstance(values, str) and "${" in values:
        raise ConfigError(f"{where}: holds a reference '${{...}}'; write the value itself")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping.

    Raises:
        ConfigError: the file is missing, is not YAML, does not hold a mapping, or holds a
            reference.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such configuration file; correct the path")
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # YAML parsers raise many unrelated types
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark is not None else ""
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path}: not valid YAML ({line}{reason})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines, found a {type(content).__name__}")
    refuse_references(content, str(path))
    return cast(dict[str, Any], content)


def settings_of(texts: Iterable[str], option: str, example: str) -> dict[str, Any]:
    """What an option's ``key=value`` texts say, as nested values.

    Args:
        texts: keys may have dots, values are YAML.
        option: the option, for messages.
        example: a text that would be right.

    Raises:
        ConfigError: a text without ``=``, or a value that is no YAML.
    """
    given = list(texts)
    for text in given:
        if "=" not in text:
            raise ConfigError(f"{option} {text}: write KEY=VALUE, for example {example}")
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist(given), resolve=True)
    except Exception as error:  # YAML parsers raise many unrelated types
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{option}: cannot be read ({reason})") from error
    return cast(dict[str, Any], values)


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings key by key; later layers win, lists are replaced as a whole."""
    combined = OmegaConf.merge(*(OmegaConf.create(dict(layer)) for layer in layers))
    return cast(dict[str, Any], OmegaConf.to_container(combined, resolve=True))


def as_dict(record: Any) -> dict[str, Any]:
    """The record as plain dictionaries and lists, ready for JSON or YAML.

    A record's method ``meaningless`` names fields that say nothing beside the values of others;
    these are left out, too.
    """
    meaningless = record.meaningless() if hasattr(record, "meaningless") else ()
    return {
        field.name: _plain(getattr(record, field.name))
        for field in dataclasses.fields(record)
        if not (_LEFT_OUT in field.metadata and _is_unset(record, field))
        and field.name not in meaningless
    }


def _is_unset(record: Any, field: dataclasses.Field[Any]) -> bool:
    made = field.default_factory
    default = field.default if made is dataclasses.MISSING else made()
    return bool(getattr(record, field.name) == default)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return as_dict(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _refuse_unknown_keys(
    record_type: type[Any], values: Mapping[str, Any], where: str, prefix: str
) -> None:
    import typing

    hints = typing.get_type_hints(record_type)
    known = {field.name for field in dataclasses.fields(record_type)}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"{where}: unknown key '{prefix}{key}'; {nearest(str(key), known)}")
        nested = hints[key]
        if not dataclasses.is_dataclass(nested):
            continue
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: '{prefix}{key}' holds keys of its own, not {value!r}")
        _refuse_unknown_keys(cast(type[Any], nested), value, where, f"{prefix}{key}.")

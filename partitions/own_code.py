"""Run code of a lab's own: only what this machine's list allows, and only as it was read.

The list is a YAML file of this machine, named by the environment variable ``FEDI2I_OWN_CODE`` or
else ``fedi2i/own-code.yaml`` in the user's folder of configurations. It maps a dotted path to the
digest of the package that holds it::

    my_lab.readers:READER: 6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b

Without the file, without the path in it, with another digest, or where others may change the file
or the folder that it lies in, nothing of the package is imported. Of the package the source itself
runs, and never a compiled copy of it, which nobody has read.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedi2i.errors import ConfigError
from fedi2i.typed_config import nearest, read_yaml
from partitions.manifest import Origin

VARIABLE = "FEDI2I_OWN_CODE"

_OTHERS_WRITE = 0o022
_CACHE = "__pycache__"
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def load_own(dotted: str) -> tuple[Any, Origin]:
    """Import an object of an installed package that this machine allows.

    Args:
        dotted: ``package.module:NAME``.

    Returns:
        The object, and what the manifest says of its code.

    Raises:
        ConfigError: it is not allowed, its code is not the code that was allowed, or there is no
            such package, module or name.
    """
    if not _DOTTED.fullmatch(dotted):
        raise ConfigError(f"'{dotted}' is no dotted path; write it like my_lab.readers:READER")
    path = list_path()
    listed = _listed(path)
    module, _, name = dotted.partition(":")
    digest = package_digest(module.partition(".")[0])
    if dotted not in listed:
        hint = f"; {nearest(dotted, listed)}" if listed else ""
        raise ConfigError(
            f"'{dotted}' is not on this machine's list {path}{hint}; whoever answers for the data "
            f"reads the code, and then adds the line '{dotted}: {digest}'"
        )
    if listed[dotted] != digest:
        raise ConfigError(
            f"the package of '{dotted}' is not the one that {path} allows; whoever answers for the "
            f"data reads what has changed, and then writes the digest {digest}"
        )
    return _imported(module, name, dotted), Origin(dotted, digest)


def list_path() -> Path:
    """Where this machine's list is, whether it is there or not."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "fedi2i" / "own-code.yaml"


def package_digest(package: str) -> str:
    """SHA-256 over the names and the content of all files of a package, in hexadecimal.

    The package is not imported. Python's compiled copies are left out, as they never run here.

    Raises:
        ConfigError: there is no such package, it is spread over several folders or lies in an
            archive, or a link in it leads to another folder.
    """
    spec = find_spec(package)
    if spec is None:
        raise ConfigError(f"no package '{package}' is installed; install the lab's package first")
    places = list(spec.submodule_search_locations or ())
    if len(places) > 1 or (not places and not spec.origin):
        raise ConfigError(f"package '{package}' is spread over several folders; install it as one")
    root = Path(places[0]) if places else Path(spec.origin or "").parent
    files = sorted(root.rglob("*")) if places else [Path(spec.origin or "")]
    content, is_empty = hashlib.sha256(), True
    for path in files:
        if path.is_symlink() and path.is_dir():
            raise ConfigError(
                f"{path}: is a link to a folder, whose files no digest of '{package}' covers; put "
                "the folder itself there"
            )
        if path.is_file() and not _is_compiled_copy(path.relative_to(root)):
            content.update(f"{path.relative_to(root).as_posix()}\0".encode())
            content.update(hashlib.sha256(path.read_bytes()).digest())
            is_empty = False
    if is_empty:
        raise ConfigError(f"package '{package}' has no files to read; install it as a folder")
    return content.hexdigest()


def _is_compiled_copy(path: Path) -> bool:
    """Whether a file of a package is Python's own, such as ``__pycache__/names.cpython-311.pyc``.

    Any other file may lie in such a folder, too, and ``names.pyc`` there could be imported.
    """
    return path.parent.name == _CACHE and path.suffix == ".pyc" and "." in path.stem


def _listed(path: Path) -> Mapping[str, str]:
    if not path.is_file():
        return {}
    if os.name == "posix":
        _refuse_what_others_change(path)
    listed = read_yaml(path)
    return {str(dotted): str(digest) for dotted, digest in listed.items()}


def _refuse_what_others_change(path: Path) -> None:
    """Refuse a list that somebody else may write, or put another one in the place of."""
    target = path.resolve()
    for place in dict.fromkeys((path, path.parent, target.parent)):
        what = "this list" if place is path else "the folder of this list"
        found = place.stat()
        # In a folder like /tmp nobody may move what belongs to another account.
        is_sticky = bool(found.st_mode & stat.S_ISVTX) and place is not path
        if found.st_mode & _OTHERS_WRITE and not is_sticky:
            raise ConfigError(
                f"{place}: others may change {what}, so that it allows nothing; 'chmod go-w' it"
            )
        if found.st_uid not in (0, os.getuid()):
            raise ConfigError(
                f"{place}: {what} belongs to another account, so that it allows nothing; write a "
                "list of your own"
            )


def _imported(module: str, name: str, dotted: str) -> Any:
    _run_sources_alone()
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"'{dotted}' cannot be imported ({error}); correct the path") from error


def _run_sources_alone() -> None:
    """Let Python neither read nor write compiled copies, in this process and those it starts.

    A copy may say of itself that it is not to be compared with its source, and then runs in its
    place. It stays so until the process ends, as a reader may import more of its package later.
    """
    nowhere = str(Path(__file__) / _CACHE)  # there is no folder in a file
    sys.pycache_prefix, sys.dont_write_bytecode = nowhere, True
    os.environ.update({"PYTHONPYCACHEPREFIX": nowhere, "PYTHONDONTWRITEBYTECODE": "1"})

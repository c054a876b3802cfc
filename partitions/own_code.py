"""Run code of a lab's own: only what this machine's list allows, and only as it was read.

The list is a YAML file of this machine, named by the environment variable ``FEDI2I_OWN_CODE`` or
else ``fedi2i/own-code.yaml`` in the user's folder of configurations. It maps a dotted path to the
digest of the package that holds it::

    my_lab.readers:READER: 6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b

Without the file, without the path in it, with another digest, or where others may change the file
or the folder that it lies in, nothing of the package is imported. Of the package the source itself
runs, and never a compiled copy of it, which nobody has read. Before the name stands a colon or, as
for classes in NVFlare's and MONAI's configurations, a dot; both are one line of the list.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from omegaconf import OmegaConf

from fedi2i.errors import ConfigError
from fedi2i.files import private_folder, write_text
from fedi2i.typed_config import nearest, read_yaml
from partitions.manifest import Origin

VARIABLE = "FEDI2I_OWN_CODE"

_OTHERS_WRITE = 0o022
_CACHE = "__pycache__"
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*[:.][A-Za-z_]\w*")


def load_own(dotted: str, in_children: bool = True) -> tuple[Any, Origin]:
    """Import an object of an installed package that this machine allows.

    Args:
        dotted: ``package.module:NAME`` or ``package.module.NAME``.
        in_children: whether processes that this one starts may import more of the package. None of
            them reads or writes compiled copies then, not even of other packages, which takes them
            seconds.

    Returns:
        The object, and what the manifest says of its code.

    Raises:
        ConfigError: it is not allowed, its code is not the code that was allowed, or there is no
            such package, module or name.
    """
    digest = check_allowed(dotted)
    module, name = _split(dotted)
    if in_children:
        _run_sources_alone()
    else:
        _SourcesAlone.of(module.partition(".")[0])
    return _imported(module, name, dotted), Origin(dotted, digest)


def check_allowed(dotted: str) -> str:
    """Hold a dotted path against this machine's list; nothing of its package is imported.

    Returns:
        The digest of the package.

    Raises:
        ConfigError: see ``load_own``.
    """
    path = list_path()
    listed = _listed(path)
    digest = package_digest(_package_of(dotted))
    entry = _entry(dotted)
    if entry not in listed:
        hint = f"; {nearest(dotted, listed)}" if listed else ""
        raise ConfigError(
            f"'{dotted}' is not on this machine's list {path}{hint}; whoever answers for the data "
            f"reads the code, and then adds the line '{dotted}: {digest}', as 'fedi2i provision "
            f"allow {dotted}' does"
        )
    if listed[entry] != digest:
        raise ConfigError(
            f"the package of '{dotted}' is not the one that {path} allows; whoever answers for the "
            f"data reads what has changed, and then writes the digest {digest}"
        )
    return digest


def is_allowed(dotted: str) -> bool:
    """Whether ``check_allowed`` passes a dotted path that a stranger has sent.

    The list is asked first: of what is not on it no package is read, however large the package is
    that the stranger names.
    """
    try:
        if _entry(dotted) not in _listed(list_path()):
            return False
        check_allowed(dotted)
    except ConfigError:
        return False
    return True


def is_dotted(text: str) -> bool:
    """Whether a text has the form of a dotted path; nothing is looked up."""
    return _DOTTED.fullmatch(text) is not None


def allow(dotted: str) -> tuple[Path, str]:
    """Enter a dotted path, with the digest of its package as it is now, into this machine's list.

    Nothing of the package is imported. A list that is not there is made, for this account alone.

    Returns:
        The list, and the digest.

    Raises:
        ConfigError: there is no such package, or others may change the list.
    """
    path = list_path()
    digest = package_digest(_package_of(dotted))
    listed = {**_listed(path), _entry(dotted): digest}
    if not path.parent.is_dir():
        private_folder(path.parent)
    write_text(path, OmegaConf.to_yaml(OmegaConf.create(listed)), 0o600)
    return path, digest


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
    return {_entry(str(dotted)): str(digest) for dotted, digest in listed.items()}


def _split(dotted: str) -> tuple[str, str]:
    """Module and name of a dotted path."""
    if not is_dotted(dotted):
        raise ConfigError(f"'{dotted}' is no dotted path; write it like my_lab.readers:READER")
    module, _, name = dotted.rpartition(":" if ":" in dotted else ".")
    return module, name


def _package_of(dotted: str) -> str:
    return _split(dotted)[0].partition(".")[0]


def _entry(dotted: str) -> str:
    """How a dotted path stands on the list, whichever way it was written."""
    return ":".join(_split(dotted))


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


class _FromSource(SourceFileLoader):
    """Loads a module from its source, whatever copies lie beside it."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _SourcesAlone(MetaPathFinder):
    """Lets this process run no compiled copies of one package; it acts until the process ends."""

    def __init__(self, package: str) -> None:
        self._package = package

    @staticmethod
    def of(package: str) -> None:
        """Begin, unless it has begun."""
        if not any(isinstance(f, _SourcesAlone) and f._package == package for f in sys.meta_path):
            sys.meta_path.insert(0, _SourcesAlone(package))

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the other finders find, with a loader that reads the source."""
        if fullname.partition(".")[0] != self._package:
            return None
        others = (finder for finder in sys.meta_path if not isinstance(finder, _SourcesAlone))
        for finder in others:
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if type(spec.loader) is SourceFileLoader:
                    spec.loader = _FromSource(spec.loader.name, spec.loader.path)
                return spec
        return None

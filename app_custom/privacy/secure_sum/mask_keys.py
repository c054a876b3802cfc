"""A site's side of the exchange of keys: the executor for it, and where the secrets are kept.

In a kit one process does all tasks of a job, and its secrets stay in its memory: they never touch a
disk, and end with the process. A process that is started anew has none, and its site drops out of
the sums. The simulator may start a process for every task; there the secrets lie in a file of the
site's state folder, readable by its owner alone, which is removed at the end of the run and
replaced by the next one's. All sites of a simulator belong to one person.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.app_constant import AppConstants

from app_custom.nvflare_context import (
    local_folder,
    needed_sites,
    site_name,
    startup_folder,
    workspace_folder,
)
from app_custom.participant.site_configuration import (
    checked_run_name,
    read_site_config,
    state_folder,
)
from app_custom.privacy.secure_sum.key_exchange import (
    ANNOUNCEMENT,
    ANNOUNCEMENTS,
    KEPT,
    KEYS,
    OPEN,
    OPENING,
    ROSTER,
    SUM_SITES,
)
from app_custom.privacy.secure_sum.signed_keys import (
    announcement,
    checked_keys,
    kit_authority,
    kit_identity,
)
from app_custom.privacy.update_filters import is_simulated
from fedi2i.errors import UserError
from fedi2i.files import write_text
from lightning_modules.privacy.mask_turns import MaskTurn, opened_by
from lightning_modules.privacy.pairwise_masks import (
    LEAST_SITES,
    SECRET_BYTES,
    MaskError,
    MaskRound,
    SiteSecrets,
    keys_digest,
    new_private_key,
    public_key,
)

_OWNER_ONLY = 0o600


@dataclass(frozen=True)
class KeptKeys:
    """What a site keeps for the time of one job.

    Attributes:
        job: NVFlare's id of the job.
        sites: the invited sites, as the site signed them.
        secrets: its own; the public keys are empty until all sites' have been checked.
        turn: its last answer.
    """

    job: str
    sites: tuple[str, ...]
    secrets: SiteSecrets
    turn: MaskTurn


@dataclass
class _Memory:
    """The secrets of the jobs that run in this process, by site and job."""

    kept: dict[tuple[str, str], KeptKeys] = field(default_factory=dict)


_MEMORY = _Memory()


class KeyStore:
    """Keeps a site's secrets for as long as a job runs.

    Args:
        run: names the file in the simulator.
        fl_ctx: context of this site's run.
    """

    def __init__(self, run: str, fl_ctx: FLContext) -> None:
        self._owner = (site_name(fl_ctx), str(fl_ctx.get_job_id()))
        self._file: Path | None = None
        if is_simulated(fl_ctx):
            local, site = local_folder(fl_ctx), site_name(fl_ctx)
            state = state_folder(read_site_config(local), site, workspace_folder(fl_ctx)) / site
            self._file = state / f"masks-{run}.json"

    def load(self) -> KeptKeys | None:
        """What is kept; None if nothing is."""
        if self._file is None:
            return _MEMORY.kept.get(self._owner)
        try:
            return _kept(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MaskError(
                f"{self._file}: cannot be read ({error}); start the run anew"
            ) from error

    def held(self) -> KeptKeys:
        """What is kept, with the checked keys of all sites.

        Raises:
            MaskError: this process has taken no part in the job's exchange of keys.
        """
        kept = self.load()
        if kept is None or not kept.secrets.public:
            raise MaskError(
                "this site has no keys for this job's masks: it missed the exchange, or its "
                "process was started anew; submit the job again"
            )
        return kept

    def save(self, kept: KeptKeys) -> None:
        """Keep something, before anything that follows from it leaves the site."""
        if self._file is None:
            _MEMORY.kept[self._owner] = kept
        else:
            write_text(self._file, _text(kept), _OWNER_ONLY)

    def forget(self) -> None:
        """Forget everything: the job is over."""
        _MEMORY.kept.pop(self._owner, None)
        if self._file is not None:
            self._file.unlink(missing_ok=True)


class MaskKeys(Executor):
    """Announces this site's key, checks those of the others, opens its own masks.

    Args:
        run: names the run.
    """

    def __init__(self, run: str) -> None:
        super().__init__()
        self._run = checked_run_name(run)

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Forget the secrets when the run ends; the simulator's processes hear of it as well."""
        if event_type == EventType.END_RUN:
            KeyStore(self._run, fl_ctx).forget()

    def execute(
        self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal
    ) -> Shareable:
        """Do one task of the exchange; a refusal is explained in this site's log."""
        steps = {KEYS: self._announce, ROSTER: self._check_keys, OPEN: self._open}
        if task_name not in steps:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        try:
            data = steps[task_name](shareable, fl_ctx)
        except UserError as error:
            self.log_error(fl_ctx, f"site '{site_name(fl_ctx)}' refuses '{task_name}': {error}")
            return make_reply(ReturnCode.EXECUTION_EXCEPTION)
        return DXO(DataKind.APP_DEFINED, data=data).to_shareable()

    def _announce(self, shareable: Shareable, fl_ctx: FLContext) -> dict[str, object]:
        job, site = str(fl_ctx.get_job_id()), site_name(fl_ctx)
        sites = sites_of(shareable)
        _check_invited(sites, site, least_sites(fl_ctx))
        store = KeyStore(self._run, fl_ctx)
        kept = None if is_simulated(fl_ctx) else store.load()
        if kept is not None and kept.sites != sites:
            raise MaskError(
                f"this job's keys were made for {', '.join(kept.sites)}, and now "
                f"{', '.join(sites)} are invited"
            )
        if kept is None:
            secrets = SiteSecrets(site, new_private_key(), os.urandom(SECRET_BYTES), {})
            kept = KeptKeys(job, sites, secrets, MaskTurn(sites=sites))
            store.save(kept)
        identity = None if self._unsigned(fl_ctx) else kit_identity(startup_folder(fl_ctx))
        said = announcement(job, site, public_key(kept.secrets.private), sites, identity)
        return {ANNOUNCEMENT: said}

    def _check_keys(self, shareable: Shareable, fl_ctx: FLContext) -> dict[str, object]:
        store = KeyStore(self._run, fl_ctx)
        kept = store.load()
        if kept is None:
            raise MaskError("keys of other sites came before this site was asked for its own")
        said = from_shareable(shareable).data.get(ANNOUNCEMENTS)
        if not isinstance(said, Mapping):
            raise MaskError("the server sent no keys")
        root = None if is_simulated(fl_ctx) else kit_authority(startup_folder(fl_ctx))
        public = checked_keys(said, str(fl_ctx.get_job_id()), kept.sites, root)
        if public[kept.secrets.site] != public_key(kept.secrets.private):
            raise MaskError("the server sent another key in this site's name")
        if kept.secrets.public and public != kept.secrets.public:
            raise MaskError("other keys were agreed on in this job before")
        store.save(replace(kept, secrets=replace(kept.secrets, public=public)))
        return {KEPT: keys_digest(public)}

    def _open(self, shareable: Shareable, fl_ctx: FLContext) -> dict[str, object]:
        store = KeyStore(self._run, fl_ctx)
        kept = store.held()
        asked = round_of(shareable, fl_ctx)
        turn = opened_by(kept.turn, asked)
        store.save(replace(kept, turn=turn))
        return {OPENING: kept.secrets.opening(asked)}

    def _unsigned(self, fl_ctx: FLContext) -> bool:
        if not is_simulated(fl_ctx):
            return False
        self.log_warning(
            fl_ctx, "keys of masks are not signed: simulated sites have no certificates"
        )
        return True


def least_sites(fl_ctx: FLContext) -> int:
    """Fewest sites that this site agrees to in a sum: its own limit, the job's, and three."""
    limits = read_site_config(local_folder(fl_ctx)).limits
    return max(LEAST_SITES, limits.least_sites, needed_sites(fl_ctx))


def sites_of(shareable: Shareable) -> tuple[str, ...]:
    """The sites that a task names for its sum.

    Raises:
        MaskError: it names none.
    """
    sites = shareable.get_header(SUM_SITES)
    if not isinstance(sites, list) or not all(isinstance(name, str) for name in sites):
        raise MaskError("the server names no sites whose sum it wants")
    return tuple(sites)


def round_of(shareable: Shareable, fl_ctx: FLContext) -> MaskRound:
    """The round and the set of sites that a task is about.

    Raises:
        MaskError: it names none, or fewer than three sites.
    """
    number = shareable.get_header(AppConstants.CURRENT_ROUND)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise MaskError("the server names no round")
    return MaskRound(str(fl_ctx.get_job_id()), number, sites_of(shareable))


def _check_invited(sites: tuple[str, ...], site: str, least: int) -> None:
    if site not in sites:
        raise MaskError("the list of invited sites does not name this site")
    if len(sites) < least:
        raise MaskError(f"{len(sites)} sites are invited, and this site agrees to {least} or more")
    if list(sites) != sorted(set(sites)):
        raise MaskError("the list of invited sites is not sorted, or names a site twice")


def _text(kept: KeptKeys) -> str:
    secrets, turn = kept.secrets, kept.turn
    content = {
        "job": kept.job,
        "sites": kept.sites,
        "site": secrets.site,
        "private": secrets.private.hex(),
        "own": secrets.own.hex(),
        "public": {name: key.hex() for name, key in secrets.public.items()},
        "turn": [turn.number, turn.sites, turn.digest, turn.opened],
    }
    return json.dumps(content)


def _kept(text: str) -> KeptKeys:
    content = json.loads(text)
    secrets = SiteSecrets(
        content["site"],
        bytes.fromhex(content["private"]),
        bytes.fromhex(content["own"]),
        {name: bytes.fromhex(key) for name, key in content["public"].items()},
    )
    number, sites, digest, opened = content["turn"]
    turn = MaskTurn(int(number), tuple(sites), str(digest), bool(opened))
    return KeptKeys(content["job"], tuple(content["sites"]), secrets, turn)

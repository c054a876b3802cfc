"""Texts in a kit for the people who install it: its read-me, and ``fedi2i.yaml`` to fill in.

The read-me says what the kit is, how to check and start it, and what leaves the site.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from app_custom.gates.job_limits import JobLimits
from app_custom.participant.proxy import PASSWORD, USER

_GUIDE = "provision/README.md"


@dataclass(frozen=True)
class KitFacts:
    """What a kit's read-me tells.

    Attributes:
        name: the participant.
        org: its organisation.
        host: the server's host name.
        port: the server's port.
        authority: SHA-256 fingerprint of the project's root certificate.
        expires: last day of the participant's certificate.
        gpus: ``2 GPUs with 24 GiB each``, or ``none``.
    """

    name: str
    org: str
    host: str
    port: int
    authority: str
    expires: str
    gpus: str = "none"


_HEAD = """\
# Startup kit: {name} ({org})

For {kind} of the FedI2I federation. Keep it private: `startup/*.key` is the identity of {name}.

- server: `{host}`, TCP port {port} (HTTPS, certificates on both sides)
- certificate of {name} valid until {expires}
- SHA-256 of the project's root certificate; compare it with what the project admin tells you
  otherwise, e.g. by telephone: `{authority}`

The whole guide: `{guide}` in the FedI2I repository.
"""

_SITE = """
## Before the first start

1. Install FedI2I in a virtual environment and activate it (guide, "Install").
2. Fill in `local/fedi2i.yaml`: where this site's data is, and the HTTP proxy if there is one.
3. `fedi2i provision check .` in this folder: one line per finding.
4. Without a proxy `nvflare preflight-check -p .`: is the server reachable? With one, the check
   before has tried the way.

## Start and stop

- start: `./startup/start.sh` (keeps running in the background and starts again after a crash)
- stop: an org_admin of {org} types `shutdown client {name}` in the admin console, or on this
  machine `touch shutdown.fl` in this folder
- logs: `log.txt` and `error_log.txt` here, `<job id>/log.txt` per job. Audit trail: `audit.log`
  here, and one per job in `<job id>/`

## Yours to decide, in `local/`

| file | what it says |
|---|---|
| `fedi2i.yaml` | where the data is; what else is sent; the least and the most that jobs may ask |
| `resources.json` | the classes that jobs may run (`class_allow_list`); GPUs: {gpus} |
| `authorization.json` | what each role may do here; nobody may bring code or read files |
| `privacy.json` | the check of senders and the most that may leave, whatever a job says |

Jobs bring no code. No port of this site is opened; it connects to the server.
What leaves the site: `docs/what-leaves-a-site.md`.
"""

_SERVER = """
## Before the first start

1. Install FedI2I in a virtual environment and activate it (guide, "Install").
2. `{host}` must resolve to this machine at every site, and port {port} must be open to them.
3. The storage folder in `local/resources.json` must be writable for the server's account.
4. `fedi2i provision check .`, then `nvflare preflight-check -p .` in this folder.

## Start and stop

- start: `./startup/start.sh`
- stop: the project_admin types `shutdown server` in the admin console, or `touch shutdown.fl` here
- logs: `log.txt`, `error_log.txt`; audit trail: `audit.log`, and one per job in `<job id>/`

The server sees every site's update. It receives no images and no logs of sites.
"""

_USER = """
## Use

1. Install FedI2I in a virtual environment and activate it.
2. `fedi2i provision check .`, then `nvflare preflight-check -p .` in this folder. Behind an HTTP
   proxy name it in `local/fedi2i.yaml` instead of the second: the check tries the way.
3. Either the console: `./startup/fl_admin.sh`, user name `{name}`, then
   `submit_job <job folder>`, `list_jobs`, `download_job <job id>`, `bye`.
   Or without it: `nvflare job submit -j <job folder> --startup-kit <this folder>`, then
   `nvflare job wait <job id> --startup-kit <this folder>`.
"""

_KINDS = {
    "server": ("the server", _SERVER),
    "client": ("one site", _SITE),
    "admin": ("one person", _USER),
}


def kit_readme(kind: str, facts: KitFacts) -> str:
    """The read-me of a kit.

    Args:
        kind: ``server``, ``client`` or ``admin``.
        facts: what to tell.
    """
    named, body = _KINDS[kind]
    return (_HEAD + body).format(kind=named, guide=_GUIDE, **vars(facts))


_SITE_CONFIG = """\
# What this site decides for itself. No job can read or change it. No restart is needed: every job
# reads it anew. 'fedi2i provision check <this kit>' says whether it is complete.

# Data set name, as jobs call it, to the folder of this site that holds its manifest.json
# (docs/data.md says how to make one). Fill in, and take the '#' and the '{{}}' away.
datasets: {{}}
{examples}

# Folder for prepared slices; by default 'prepared' in the data folder, which must then be writable.
# cache: /data/fedi2i/prepared

# Send training losses step by step, for curves at the server. Round means of losses and validation
# metrics go along with every update in any case.
share_curves: true

# Send one picture panel of one validation patient per round. It shows patient data: leave it off.
share_images: false

# How little and how much a job may ask of this site; a job that asks for less or more is refused,
# and who submitted it is told which of these refused it (docs/settings.md says what each means).
limits:
{limits}

# Answer jobs of statistics: number of patients, their mean age and intensities, histograms of
# intensities, of so many patients at least (docs/divisions.md). By default they are refused.
# statistics: {{share: true, least_patients: 10}}
{proxy}"""

_PERSON_CONFIG = """\
# What you decide for yourself. The console and 'nvflare job' read it when they start;
# 'fedi2i provision check <this kit>' tries the way to the server.
{proxy}"""

_PROXY = f"""
# The HTTP proxy on the way to the server, where there is one. User and password never stand here:
# set {USER} and {PASSWORD} in the environment of whoever starts this.
# proxy: http://proxy.hospital.org:3128
"""

_SERVER_CONFIG = """\
# What the server decides for itself: model name, as jobs call it, to a file to start from.
models: {}
#   pretrained: /data/fedi2i/pretrained.pt
"""


def site_config_template(datasets: Iterable[str]) -> str:
    """A site's ``fedi2i.yaml``; it names the project's data sets, maps none, and has all limits."""
    examples = "\n".join(f"#   {name}: /data/fedi2i/{name}" for name in datasets)
    limits = "\n".join(
        f"  {name}: {str(value).lower()}" for name, value in vars(JobLimits()).items()
    )
    return _SITE_CONFIG.format(examples=examples, limits=limits, proxy=_PROXY)


def person_config_template() -> str:
    """A person's ``fedi2i.yaml``; it is complete as it is where no proxy is on the way."""
    return _PERSON_CONFIG.format(proxy=_PROXY)


def server_config_template() -> str:
    """The server's ``fedi2i.yaml``; it is complete as it is."""
    return _SERVER_CONFIG

"""The commands of ``fedi2i provision``: make, check, extend and renew kits; a proof of concept."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from inspect import getdoc
from pathlib import Path

from fedi2i.commands import Commands, name_and_path
from fedi2i.errors import ConfigError
from provision.provisioning import PROJECT_FILE

Command = Callable[[argparse.Namespace], None]
KITS = Path("kits")

# NVFlare takes seconds to import: each command imports what it needs.


def add_commands(commands: Commands) -> None:
    """Add all commands of this package."""
    _add_kits(commands)
    _add_check(commands)
    _add_site(commands)
    _add_person(commands)
    _add_block_person(commands)
    _add_renew(commands)
    _add_new_key(commands)
    _add_open_model(commands)
    _add_allow(commands)
    _add_prune(commands)
    _add_poc(commands)


def _add(commands: Commands, name: str, run: Command, help_text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_text, description=getdoc(run))
    parser.set_defaults(run=run)
    return parser


def _add_project(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--project", type=Path, default=PROJECT_FILE, help="by default provision/project.yml"
    )


def _add_workspace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workspace", type=Path, default=KITS, help="folder of all kits; by default kits"
    )
    _add_project(parser)


def _add_kits(commands: Commands) -> None:
    parser = _add(commands, "kits", kits_command, "make the first kits of the project")
    _add_workspace(parser)


def kits_command(options: argparse.Namespace) -> None:
    """Make the first kits of the project, by ``nvflare provision``."""
    from provision.provisioning import kit_folders, provision

    made = kit_folders(options.project, options.workspace)
    if made:
        raise ConfigError(
            f"{made[-1]}: kits were made before; for a new site use 'fedi2i provision "
            "add-site', for a certificate 'fedi2i provision renew'"
        )
    print(f"wrote {provision(options.project, options.workspace)}: one kit per participant")


def _add_check(commands: Commands) -> None:
    parser = _add(commands, "check", check_command, "check a kit where it is installed")
    parser.add_argument(
        "kit", type=Path, nargs="?", default=Path(), help="the kit's folder; by default this one"
    )
    parser.add_argument(
        "--before-start", action="store_true", help="only what the kit's start script checks"
    )


def check_command(options: argparse.Namespace) -> None:
    """Check a kit where it is installed."""
    from provision.kit_check import check_before_start, check_kit

    if options.before_start:
        check_before_start(options.kit)
        return
    fine, wrong = check_kit(options.kit)
    for sentence in fine:
        print(f"ok   {sentence}")
    if len(wrong) == 1:
        raise ConfigError(wrong[0])
    for sentence in wrong:
        print(f"fix  {sentence}")
    if wrong:
        raise ConfigError(f"{options.kit}: {len(wrong)} things to fix before it can start")


def _add_site(commands: Commands) -> None:
    parser = _add(commands, "add-site", add_site_command, "make a kit for one more site")
    parser.add_argument("site", help="its name, as jobs call it")
    parser.add_argument("--org", help="its organisation; by default named as the site")
    parser.add_argument("--gpus", type=int, default=0, help="number of its GPUs, with --gpu-memory")
    parser.add_argument("--gpu-memory", type=float, default=0.0, metavar="GIB", help="of each GPU")
    _add_workspace(parser)


def add_site_command(options: argparse.Namespace) -> None:
    """Make a kit for one more site."""
    from provision.add_participants import add_site

    kit = add_site(
        options.project,
        options.workspace,
        options.site,
        options.org or options.site.replace("-", "_"),
        options.gpus,
        options.gpu_memory,
    )
    print(f"wrote {kit}; nobody else's kit changed")
    print(f"now add '{options.site}' to {options.project}, so that later runs know it")


def _add_person(commands: Commands) -> None:
    parser = _add(
        commands, "add-person", add_person_command, "make a console kit for one more person"
    )
    parser.add_argument("person", help="e-mail address")
    parser.add_argument("--org", required=True, help="organisation, as in the project file")
    parser.add_argument("--role", required=True, help="project_admin, org_admin, lead or member")
    _add_workspace(parser)


def add_person_command(options: argparse.Namespace) -> None:
    """Make a console kit for one more person."""
    from provision.add_participants import add_person

    kit = add_person(options.project, options.workspace, options.person, options.org, options.role)
    print(f"wrote {kit}; nobody else's kit changed")
    print(f"now add '{options.person}' to {options.project}, so that later runs know them")


def _add_block_person(commands: Commands) -> None:
    parser = _add(
        commands,
        "block-person",
        block_person_command,
        "take a person's rights at one participant",
    )
    parser.add_argument("person", help="as in the project file")
    parser.add_argument(
        "kit",
        type=Path,
        nargs="?",
        default=Path(),
        help="the installed kit; by default this folder",
    )


def block_person_command(options: argparse.Namespace) -> None:
    """Take every right at a participant from a person."""
    from provision.permissions import block_person

    path = block_person(options.kit, options.person)
    print(
        f"wrote {path}: nobody named '{options.person}' has a right here once this participant "
        "is restarted; compare the name with the certificate or project file, letter by letter"
    )


def _add_renew(commands: Commands) -> None:
    parser = _add(
        commands, "renew", renew_command, "make a new key and certificate for a participant"
    )
    parser.add_argument("name", help="as in the project file")
    _add_workspace(parser)


def renew_command(options: argparse.Namespace) -> None:
    """Make a kit with a new certificate."""
    from provision.add_participants import renew

    kit = renew(options.project, options.workspace, options.name)
    print(f"wrote {kit}: replace 'startup' of the installed kit by this one, keep its 'local'")


def _add_new_key(commands: Commands) -> None:
    parser = _add(
        commands, "new-key", new_key_command, "replace the key for encrypted averaging in all kits"
    )
    _add_workspace(parser)


def new_key_command(options: argparse.Namespace) -> None:
    """Make kits with a new key for encrypted averaging, for server and sites."""
    from provision.encryption import replace_key

    made = replace_key(options.project, options.workspace)
    print(
        f"wrote {made}: server and every site replace 'startup' by theirs at the same time, and "
        "keep their 'local'"
    )
    print(f"whoever is not in {options.project} has no part in it; old kits open earlier models")


def _add_open_model(commands: Commands) -> None:
    parser = _add(
        commands, "open-model", open_model_command, "decrypt a model with the key of a site's kit"
    )
    parser.add_argument("model", type=Path, help="ends in .encrypted, from a job's result")
    parser.add_argument(
        "--kit", type=Path, default=Path(), help="the site's installed kit; by default this folder"
    )
    parser.add_argument("--out", type=Path, required=True, help="the model file to write")


def open_model_command(options: argparse.Namespace) -> None:
    """Decrypt a global model of an encrypted job, at a site."""
    import torch

    from lightning_modules.sharing.tensor_file import write_tensors
    from provision.encryption import open_model

    arrays = open_model(options.kit, options.model)
    write_tensors(options.out, {"model": {k: torch.from_numpy(v) for k, v in arrays.items()}})
    print(f"wrote {options.out}: {len(arrays)} arrays, readable for everybody from now on")


def _add_allow(commands: Commands) -> None:
    parser = _add(commands, "allow", allow_command, "let code of a lab's own run on this machine")
    parser.add_argument(
        "path", help="dotted path of a network's class (my_lab.nets.MyGenerator) or of a reader"
    )


def allow_command(options: argparse.Namespace) -> None:
    """Allow one class or reader of an installed package, as it is now, by its dotted path.

    Run it as the account that the participant runs under, once you have read the package.
    """
    from partitions.own_code import allow

    path, digest = allow(options.path)
    print(f"wrote {path}: '{options.path}' may run here while its package is {digest[:12]}")
    print("whoever changes or updates the package, asks again")


def _add_prune(commands: Commands) -> None:
    parser = _add(commands, "prune", prune_command, "remove what jobs have left and nothing uses")
    parser.add_argument(
        "workspace", type=Path, nargs="?", default=Path(), help="kit or simulator workspace"
    )
    parser.add_argument(
        "--older-than",
        type=float,
        default=90.0,
        metavar="DAYS",
        help="unused for so long; by default 90",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed")


def prune_command(options: argparse.Namespace) -> None:
    """Remove prepared slices and states of runs that nothing has used for a while."""
    from provision.removal.prune import leftovers, remove

    if not options.older_than >= 1:
        raise ConfigError(f"--older-than {options.older_than:g}: write 1 day or more")
    freed = 0
    for entry in leftovers(options.workspace, options.older_than):
        what = f"{entry.folder}: {entry.kind}, {entry.megabytes:.1f} MB, last used {entry.day}"
        try:
            if options.dry_run or remove(entry):
                print(f"{'would remove' if options.dry_run else 'removed'} {what}")
                freed += entry.bytes
            else:
                print(f"kept {what}: a job is using it")
        except OSError as error:
            raise ConfigError(f"{entry.folder}: cannot be removed ({error.strerror})") from error
    print(f"{'would free' if options.dry_run else 'freed'} {freed / 1e6:.1f} MB")


def _add_poc(commands: Commands) -> None:
    from jobs.writing.federation import DEFAULT_FILE

    poc = _add(commands, "poc", poc_command, "run server and sites on this machine, two jobs, stop")
    poc.add_argument(
        "--out",
        type=Path,
        default=Path("runs/poc"),
        help="its folder, replaced; by default runs/poc",
    )
    poc.add_argument(
        "--port", type=int, default=8102, help="the server's port on this machine; by default 8102"
    )
    poc.add_argument(
        "--experiment", type=Path, default=DEFAULT_FILE, help="YAML file; by default demo.yaml"
    )
    poc.add_argument(
        "--dataset",
        action="append",
        metavar="NAME=FOLDER",
        help="a data set and the folder of all its sites; by default demo=data/demo",
    )
    poc.add_argument("--rounds", type=int, default=2, help="rounds of the job; by default 2")
    poc.add_argument(
        "--steps", type=int, default=30, help="optimizer steps per site and round; by default 30"
    )
    poc.add_argument(
        "--gpus", action="append", default=[], metavar="SITE=N,N", help="GPUs of this machine"
    )
    poc.add_argument("--gpu-memory", type=float, default=8.0, metavar="GIB", help="of each")
    poc.add_argument("--torch-threads", type=int, help="threads per site process")
    _add_project(poc)


def poc_command(options: argparse.Namespace) -> None:
    """Run a proof of concept on this machine."""
    from jobs.writing.federation import read_federated_experiment
    from provision.poc.kits import PocConfig
    from provision.poc.run import run_poc

    gpus = _gpus(options.gpus)
    job = read_federated_experiment(
        options.experiment,
        {
            "experiment": {"training": {"rounds": options.rounds, "steps": options.steps}},
            "federation": {"gpus": {site: len(numbers) for site, numbers in gpus.items()}},
        },
    )
    config = PocConfig(
        out=options.out,
        datasets=_datasets(options.dataset),
        sites=job.federation.sites,
        port=options.port,
        project_file=options.project,
        torch_threads=options.torch_threads,
        gpus=gpus,
        gpu_memory=options.gpu_memory,
        encryption=job.privacy.mechanism == "encryption",
    )
    run_poc(config, job)


def _datasets(texts: list[str] | None) -> dict[str, Path]:
    example = "name=folder, e.g. demo=data/demo"
    return dict(name_and_path(text, "--dataset", example) for text in texts or ["demo=data/demo"])


def _gpus(texts: list[str]) -> dict[str, tuple[int, ...]]:
    """``north=0,1`` and ``east=2``: which site has which GPUs of this machine."""
    try:
        pairs = (text.split("=") for text in texts)
        gpus = {site: tuple(int(n) for n in numbers.split(",")) for site, numbers in pairs}
    except ValueError as error:
        raise ConfigError(
            f"--gpus {' '.join(texts)}: write site=numbers, e.g. --gpus north=0,1 --gpus east=2"
        ) from error
    taken = [number for numbers in gpus.values() for number in numbers]
    if len(taken) != len(set(taken)):
        raise ConfigError(f"--gpus {' '.join(texts)}: two sites cannot have the same GPU")
    return gpus

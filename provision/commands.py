"""The commands of ``fedi2i provision``: make, check, extend and renew kits; a proof of concept."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedi2i.commands import Commands, name_and_path
from fedi2i.errors import ConfigError
from provision.provisioning import PROJECT_FILE

KITS = Path("kits")


def kits_command(options: argparse.Namespace) -> None:
    """Make the first kits of the project, by ``nvflare provision``."""
    from provision.provisioning import kit_folders, provision

    made = kit_folders(options.project, options.workspace)
    if made:
        raise ConfigError(
            f"{made[-1]}: kits were made before; for a new site use 'python -m provision "
            "add-site', for a certificate 'python -m provision renew'"
        )
    print(f"wrote {provision(options.project, options.workspace)}: one kit per participant")


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
        print(f"mend {sentence}")
    if wrong:
        raise ConfigError(f"{options.kit}: {len(wrong)} things to mend before it can start")


def add_site_command(options: argparse.Namespace) -> None:
    """Make a kit for one more site."""
    from provision.further_kits import add_site

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


def add_person_command(options: argparse.Namespace) -> None:
    """Make a console kit for one more person."""
    from provision.further_kits import add_person

    kit = add_person(options.project, options.workspace, options.person, options.org, options.role)
    print(f"wrote {kit}; nobody else's kit changed")
    print(f"now add '{options.person}' to {options.project}, so that later runs know them")


def block_person_command(options: argparse.Namespace) -> None:
    """Take every right at a participant from a person."""
    from provision.blocked_person import block_person

    path = block_person(options.kit, options.person)
    print(
        f"wrote {path}: nobody named '{options.person}' has a right here once this participant "
        "is restarted; compare the name with the certificate or project file, letter by letter"
    )


def renew_command(options: argparse.Namespace) -> None:
    """Make a kit with a new certificate."""
    from provision.further_kits import renew

    kit = renew(options.project, options.workspace, options.name)
    print(f"wrote {kit}: replace 'startup' of the installed kit by this one, keep its 'local'")


def poc_command(options: argparse.Namespace) -> None:
    """Run a proof of concept on this machine."""
    from jobs.writing.federation import read_federated_experiment
    from provision.poc.federation import PocConfig
    from provision.poc.run import run_poc

    gpus = _gpus(options.gpus)
    changes = {
        "experiment": {"training": {"rounds": options.rounds, "steps": options.steps}},
        "federation": {"gpus": {site: len(numbers) for site, numbers in gpus.items()}},
    }
    job = read_federated_experiment(options.experiment, changes)
    datasets = dict(
        name_and_path(text, "--dataset", "name=folder, e.g. demo=data/demo")
        for text in options.dataset or ["demo=data/demo"]
    )
    config = PocConfig(
        out=options.out,
        datasets=datasets,
        sites=job.federation.sites,
        port=options.port,
        project_file=options.project,
        torch_threads=options.torch_threads,
        gpus=gpus,
        gpu_memory=options.gpu_memory,
    )
    run_poc(config, job)


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


def add_commands(commands: Commands) -> None:
    """Add all commands of this package."""
    kits = commands.add_parser("kits", help="make the first kits of the project")
    kits.set_defaults(run=kits_command)
    check = commands.add_parser("check", help="check a kit where it is installed")
    check.add_argument("kit", type=Path, nargs="?", default=Path(), help="the kit's folder")
    check.add_argument(
        "--before-start", action="store_true", help="what the kit's start script checks"
    )
    check.set_defaults(run=check_command)
    add = commands.add_parser("add-site", help="make a kit for one more site")
    add.add_argument("site", help="its name, as jobs call it")
    add.add_argument("--org", help="its organisation; by default named as the site")
    add.add_argument("--gpus", type=int, default=0, help="number of its GPUs (with --gpu-memory)")
    add.add_argument("--gpu-memory", type=float, default=0.0, metavar="GIB", help="of each GPU")
    add.set_defaults(run=add_site_command)
    person = commands.add_parser("add-person", help="make a console kit for one more person")
    person.add_argument("person", help="e-mail address")
    person.add_argument("--org", required=True, help="organisation, as in the project file")
    person.add_argument("--role", required=True, help="project_admin, org_admin, lead or member")
    person.set_defaults(run=add_person_command)
    block = commands.add_parser("block-person", help="take a person's rights at one participant")
    block.add_argument("person", help="as in the project file")
    block.add_argument("kit", type=Path, nargs="?", default=Path(), help="the installed kit")
    block.set_defaults(run=block_person_command)
    renew = commands.add_parser("renew", help="new key and certificate for a participant")
    renew.add_argument("name", help="as in the project file")
    renew.set_defaults(run=renew_command)
    for command in (kits, add, person, renew):
        command.add_argument("--workspace", type=Path, default=KITS, help="folder of all kits")
    poc = commands.add_parser("poc", help="server and sites on this machine, two jobs, stop")
    _poc_options(poc)
    for command in (kits, add, person, renew, poc):
        command.add_argument("--project", type=Path, default=PROJECT_FILE, help="project file")


def _poc_options(poc: argparse.ArgumentParser) -> None:
    from jobs.writing.federation import DEFAULT_FILE

    poc.add_argument("--out", type=Path, default=Path("runs/poc"), help="its folder, replaced")
    poc.add_argument("--port", type=int, default=8102, help="the server's port on this machine")
    poc.add_argument("--experiment", type=Path, default=DEFAULT_FILE, help="YAML file")
    poc.add_argument("--dataset", action="append", metavar="NAME=FOLDER")
    poc.add_argument("--rounds", type=int, default=2, help="rounds of the job")
    poc.add_argument("--steps", type=int, default=30, help="optimizer steps per site and round")
    poc.add_argument(
        "--gpus", action="append", default=[], metavar="SITE=N,N", help="GPUs of this machine"
    )
    poc.add_argument("--gpu-memory", type=float, default=8.0, metavar="GIB", help="of each")
    poc.add_argument("--torch-threads", type=int, help="threads per site process")
    poc.set_defaults(run=poc_command)

"""Time and memory of every server rule beside FedAvg, for several sites and sizes of model.

Usage: ``make benchmark-aggregation`` (or ``python benchmarks/aggregation.py --sites 4 8 16
--millions 1 10 54``). Every line is measured in a process of its own, one after the other, with the
same updates: the first generator of the size, every site's copy disturbed by noise. Memory is what
the aggregation needs at its peak beyond the sites' updates and the global model that was sent
out, in models; the model that it makes is included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import psutil

from lightning_modules.combining.updates import SiteUpdate
from lightning_modules.strategies.catalogue import STRATEGIES
from lightning_modules.strategies.interface import ServerRule, ServerView

CHANNELS = {
    1: (40, 80, 160, 320),
    10: (64, 128, 256, 512, 1024),
    54: (145, 290, 580, 1160, 2320),
}
"""U-Nets of about so many million parameters."""

MEASURED = tuple(
    name
    for name, strategy in STRATEGIES.items()
    if strategy.server and not strategy.rounds_per_pass
)
"""Every strategy that combines whole models at a server."""


def main() -> None:
    """Measure every case and print a table per model."""
    options = _parser().parse_args()
    if options.case:
        strategy, sites, millions = options.case
        print(json.dumps(measure(strategy, int(sites), int(millions))))
        return
    for millions in options.millions:
        print(f"generator of {_parameters(millions) / 1e6:.1f} M parameters")
        print(f"  {'sites':>5} {'strategy':<14}{'seconds':>9}{'of FedAvg':>11}{'memory':>9}")
        for sites in options.sites:
            plain = None
            for strategy in options.strategies:
                found = _in_own_process(strategy, sites, millions)
                plain = plain or found["seconds"]
                print(
                    f"  {sites:>5} {strategy:<14}{found['seconds']:>9.2f}"
                    f"{found['seconds'] / plain:>11.1f}{found['models']:>9.2f}",
                    flush=True,
                )


def measure(name: str, sites: int, millions: int) -> dict[str, float]:
    """Seconds, and memory in models, of one aggregation."""
    from lightning_modules.combining.distances import squares_from_mean

    rule, view, anchor = _server(name, sites, millions)
    updates = [_update(anchor, site, name) for site in range(sites)]
    model = sum(value.nbytes for value in anchor.values())
    with _PeakMemory() as memory:
        started = time.perf_counter()
        combined = rule.combine("generator", updates, anchor, view)
        if not rule.is_mean:
            squares_from_mean(combined, updates, anchor)
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "models": memory.extra / model}


def _server(
    name: str, sites: int, millions: int
) -> tuple[ServerRule, ServerView, dict[str, np.ndarray]]:
    """A strategy's server rule, what it sees, and the global model that was sent out."""
    from lightning_modules.matching.network_groups import network_groups
    from lightning_modules.sharing.shared_networks import SharedNetworks

    strategy = STRATEGIES[name]
    assert strategy.server is not None
    rule = strategy.server(strategy.settings())
    model = {"generator": {"channels": list(CHANNELS[millions])}}
    networks = SharedNetworks(model, "generator", 1)
    parameters = dict(networks.named_parameters())
    view = ServerView(
        sites=tuple(f"site-{site:02d}" for site in range(sites)),
        round_number=1,
        is_parameter=lambda key: key in parameters,
    )
    if rule.matches_channels:
        view.groups = network_groups(networks, networks.config, networks.keys())
    return rule, view, {key: value.numpy() for key, value in networks.state_dict().items()}


def _update(anchor: dict[str, np.ndarray], site: int, name: str) -> SiteUpdate:
    rng = np.random.default_rng(site)
    weights = {
        key: value + 0.005 * rng.standard_normal(value.shape, dtype=np.float32)
        for key, value in anchor.items()
    }
    kinds = STRATEGIES[name].site.extras
    extras = {f"{kind}/{key}": value for kind in kinds for key, value in weights.items()}
    return SiteUpdate(f"site-{site:02d}", weights, 10.0 + site, extras)


class _PeakMemory:
    """The largest resident memory while it is open, less what was resident before."""

    def __enter__(self) -> _PeakMemory:
        self._process = psutil.Process()
        self._before = self._peak = self._process.memory_info().rss
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watch.join()
        self.extra = self._peak - self._before

    def _look(self) -> None:
        while not self._stop.wait(0.005):
            self._peak = max(self._peak, self._process.memory_info().rss)


def _in_own_process(strategy: str, sites: int, millions: int) -> dict[str, float]:
    case = [strategy, str(sites), str(millions)]
    done = subprocess.run(
        [sys.executable, __file__, "--case", *case],
        capture_output=True,
        text=True,
        # Freed blocks go back to the system, so that resident memory means memory in use.
        env={**os.environ, "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536"},
        check=False,
    )
    if done.returncode:
        sys.exit(f"error: {' '.join(case)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _parameters(millions: int) -> int:
    from lightning_modules.networks.configuration import GeneratorConfig
    from lightning_modules.networks.generators.catalogue import build_generator

    generator = build_generator(GeneratorConfig(channels=CHANNELS[millions]))
    return sum(parameter.numel() for parameter in generator.parameters())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 10, 54], choices=CHANNELS)
    parser.add_argument("--strategies", nargs="+", default=MEASURED, choices=MEASURED)
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()

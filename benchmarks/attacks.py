"""Attacks on a running server, and the figures that it must reach under each.

    python -m benchmarks.attacks
    python -m benchmarks.attacks --attacks heads flood-json disk

Each attack meets a fresh server. Eight good callers send one request after the other, on new
connections, before the attack, during it and after it; GET /healthz is sent once a second. The
exit status is 1 when a figure is missed. An attack that the machine does not allow is skipped:
mounting a small disk and making a memory cgroup take root, clock steps a C compiler.

slow_clients and memory_limit show more of their attacks, and measure other checkouts.
"""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from app.access_tokens import add_token
from benchmarks import memory_limit
from benchmarks.attackers import ATTACKS, FLOODS, TOKEN_FLOOD, Attack, attackers, tls_attacks
from benchmarks.cgroup import memory_group
from benchmarks.figures import Figure, figures_of, health_figure
from benchmarks.machine_faults import FAULTS, RECOVERY_S, Bench, Skipped
from benchmarks.server import Server, make_certificate
from benchmarks.slow_clients import measure
from benchmarks.support import (
    PATH,
    allow_many_files,
    make_parser,
    publish,
    show_status,
    table,
)

HEAD = ("attack", "figure", "found", "must be", "")
MEMORY_MB = 1500

Run = Callable[[Bench], list[Figure]]


def run_clients(attack: Attack, bench: Bench) -> list[Figure]:
    """Run an attack of clients."""
    return _run(attack, bench.server(), bench)


def run_tls_clients(attack: Attack, bench: Bench) -> list[Figure]:
    """Run an attack of clients on a server that speaks TLS."""
    return _run(attack, bench.server(certificate=make_certificate(bench.folder)), bench)


def run_token_flood(bench: Bench) -> list[Figure]:
    """Flood a server that asks for tokens with wrong ones."""
    tokens = bench.folder / "tokens.json"
    server = bench.server(("access_tokens", "on"), ("tokens_file", tokens))
    server.path = f"{PATH}?access_token={add_token(tokens, 'good')}"
    return _run(TOKEN_FLOOD, server, bench)


def _run(attack: Attack, server: Server, bench: Bench) -> list[Figure]:
    with server.running():
        outcome = measure(server, attackers(attack, server), bench.seconds)
    return figures_of(outcome, attack.min_share)


def run_memory(load: memory_limit.Load, bench: Bench) -> list[Figure]:
    """Load a server in a memory cgroup."""
    with memory_group(MEMORY_MB * 1_000_000) as group:
        if group is None:
            raise Skipped("needs to make a memory cgroup (root)")
        server = bench.server(prefix=group.enter())
        with server.running():
            outcome = memory_limit.measure(server, group, load, 4 * bench.seconds)
            tracebacks = server.log_text().count("Traceback")
    return [
        Figure("processes killed for memory", outcome.oom_kills or 0, 0),
        Figure("peak of a worker, MB", outcome.worker_peak_mb, MEMORY_MB),
        health_figure(outcome.health),
        Figure("next result after it, s", outcome.good_after_s or float("nan"), RECOVERY_S),
        Figure("tracebacks in the log", tracebacks, 0),
        Figure("workers replaced", outcome.replaced, 0),
    ]


def known_attacks() -> dict[str, tuple[str, Run]]:
    """Every attack by its name on the command line, with what it is."""
    plain = {a.key: (_describe(a), partial(run_clients, a)) for a in (*ATTACKS, *FLOODS)}
    token = {TOKEN_FLOOD.key: (_describe(TOKEN_FLOOD), run_token_flood)}
    tls = {
        f"tls-{a.key}": (f"TLS: {_describe(a)}", partial(run_tls_clients, a))
        for a in (*ATTACKS, *FLOODS, *tls_attacks())
    }
    memory = {
        f"memory-{key}": (f"{MEMORY_MB} MB of memory: {name}", partial(run_memory, load))
        for key, (name, load) in memory_limit.LOADS.items()
    }
    return {**plain, **token, **tls, **memory, **FAULTS}


def _describe(attack: Attack) -> str:
    return f"{attack.clients} {'clients that flood: ' if attack.is_flood else ''}{attack.name}"


def run(options: argparse.Namespace) -> dict[str, list[Figure] | str]:
    """Run the chosen attacks; the figures of each, or why it was skipped."""
    known, found = known_attacks(), dict[str, list[Figure] | str]()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.seconds, tuple(options.setting))
        show_status("choosing the engine")
        bench.server().tune()
        for number, key in enumerate(options.attacks or known):
            name, attack = known[key]
            show_status(f"{number + 1} of {len(options.attacks or known)}: {name}")
            try:
                found[key] = attack(bench)
            except Skipped as exc:
                found[key] = str(exc)
    return found


def rows(name: str, figures: list[Figure] | str) -> list[tuple[str, ...]]:
    """The rows of an attack, named in the first one."""
    if isinstance(figures, str):
        return [(name, figures, "", "", "skipped")]
    names = [name, *[""] * (len(figures) - 1)]
    return [(label, *figure.cells()) for label, figure in zip(names, figures, strict=True)]


def _options() -> argparse.Namespace:
    parser = make_parser(__doc__, "attacks")
    known = known_attacks()
    parser.add_argument(
        "--attacks",
        nargs="+",
        choices=known,
        default=[],
        metavar="NAME",
        help="; ".join(f"{key}: {name}" for key, (name, _) in known.items()),
    )
    parser.add_argument("--seconds", type=float, default=8, help="of each of the three loads")
    return parser.parse_args()


def main() -> int:
    """Run the attacks and print a row for each figure."""
    options = _options()
    allow_many_files()
    found, known = run(options), known_attacks()
    measured = [
        figure for figures in found.values() if isinstance(figures, list) for figure in figures
    ]
    missed = sum(not figure.is_reached for figure in measured)
    lines = [row for key, figures in found.items() for row in rows(known[key][0], figures)]
    text = f"{table(HEAD, lines)}\n\n{len(measured)} figures, {missed} of them missed."
    attacks = {
        key: figures
        if isinstance(figures, str)
        else [dataclasses.asdict(f) | {"is_reached": f.is_reached} for f in figures]
        for key, figures in found.items()
    }
    publish(options, text, {"attacks": attacks, "missed": missed})
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

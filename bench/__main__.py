"""The ``bench`` command: mounts the commands lazily and turns errors into one sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import typer

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("bench.cli.run:run", "Compute what is missing, score it, print the leaderboard."),
    "leaderboard": ("bench.cli.leaderboard:leaderboard", "Print the boards of the runs in a store."),
    "report": ("bench.cli.report:report", "Write boards, figures and all readouts as one HTML file."),
    "compare": ("bench.cli.compare:compare", "Compare two runs, overall and per readout."),
    "gate": ("bench.cli.compare:gate", "Fail when a run is resolvably worse than a baseline, for CI."),
    "sensitivity": (
        "bench.cli.sensitivity:sensitivity",
        "Compare two entrants under every choice of the protocol.",
    ),
    "fit": ("bench.cli.fit:fit", "Fit the final model of a run, for plates that have images only."),
    "predict": ("bench.cli.predict:predict", "Predict readouts for a dataset with a fitted model."),
    "verify": ("bench.cli.leaderboard:verify", "Recompute a run's scores from its stored predictions."),
    "reproduce": ("bench.cli.reproduce:reproduce", "Make a run again and compare it with what was stored."),
    "submit": ("bench.cli.submit:app", "Write runs to an archive that others can merge."),
    "demo": ("bench.cli.demo:demo", "Make the simulated Cell Painting screen."),
    "dataset": ("bench.cli.dataset:app", "Make, check and show datasets."),
    "features": ("bench.cli.features:app", "Import ready-made profiles."),
    "cellprofiler": ("bench.cli.cellprofiler:app", "Install and run real CellProfiler."),
    "crops": ("bench.cli.crops:app", "Cut single-cell crops for training loops."),
    "look": ("bench.cli.look:look", "Draw a plate or a well as a picture."),
    "store": ("bench.cli.store:app", "List, check, query and explain what is stored."),
    "featurizers": ("bench.cli.entrants:featurizers", "List featurizers, or show one's card and settings."),
    "heads": ("bench.cli.entrants:heads", "List heads (vectors to readouts)."),
    "tasks": ("bench.cli.entrants:tasks", "List tasks."),
    "plugin": ("bench.cli.plugin:app", "Scaffold a plugin and test it for conformance."),
    "selfcheck": (
        "bench.cli.selfcheck:selfcheck",
        "Simulate screens: do our decisions keep their error rates?",
    ),
    "doctor": ("bench.cli.doctor:doctor", "Check this installation."),
}
"""Command name to ``module:attribute`` and its one-line help. Only the command in use is imported."""

INTERRUPTED = 130

HELP = """Which molecular readouts can be predicted from the picture, and with which image features?

Start with: bench run --featurizer mae --task regression
"""


def build(words: Sequence[str]) -> typer.Typer:
    """Return the application; commands that this line does not use are mounted by their help alone."""
    app = typer.Typer(
        name="bench",
        help=HELP,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def top(
        version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),  # noqa: FBT001, FBT003
    ) -> None:
        if version:
            from bench import __version__

            typer.echo(f"wellbench {__version__}")
            raise typer.Exit

    used = next((w for w in words if not w.startswith("-")), None)
    completing = any(name.endswith("_COMPLETE") for name in os.environ)
    for name, (target, text) in COMMANDS.items():
        if name != used and not completing:
            app.command(name, help=text)(_unused)
            continue
        module, attribute = target.split(":")
        found = getattr(import_module(module), attribute)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name, help=text)
        else:
            app.command(name)(found)
    return app


def _unused() -> None:
    """Stand in for a command that this command line does not use."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 an error, 2 wrong usage, 3 done in part, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    app = build(words)
    try:
        app(args=words, prog_name="bench")
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED:  # typer turns Ctrl-C into this status without a word
            _say("interrupted; what was finished is stored, the same command goes on from there")
        raise
    except BrokenPipeError:
        sys.stdout = None  # type: ignore[assignment]
        sys.exit(0)
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        _say(sentence)
        sys.exit(getattr(error, "exit_code", 1))


def _sentence(error: Exception) -> str | None:
    """Return what to tell the user of an error of ours, None for a bug, which must show as one."""
    from bench.errors import BenchError

    ours = {"FeaturizerError", "TaskError", "BoardError"}
    if isinstance(error, BenchError) or ours & {c.__name__ for c in type(error).__mro__}:
        return str(error)
    return None


def _say(text: str) -> None:
    sys.stderr.write(f"bench: {text}\n")


if __name__ == "__main__":
    main()

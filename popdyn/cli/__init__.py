"""The command line: one module for each command, loaded when it is called."""

import atexit
import contextlib
import importlib
import io
import os
import signal
import sys
from typing import NoReturn

import click

from popdyn.base.allocation import keep_freed_memory
from popdyn.base.errors import PopdynError

__all__ = ["main"]

COMMANDS = {
    "list": "list_",
    "simulate": "simulate",
    "import": "import_",
    "export": "export",
    "validate": "validate",
    "inspect": "inspect",
    "train": "train",
    "score": "score",
    "predict": "predict",
    "landscape": "landscape",
    "plot": "plot",
    "bench": "bench",
}


class Commands(click.Group):
    """The commands in the order in which a person needs them, imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"popdyn.cli.{COMMANDS[name]}").command  # type: ignore[no-any-return]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from popdyn.base.registry import lookup

            try:
                lookup(COMMANDS, args[0], "command")
            except PopdynError as error:
                raise click.UsageError(str(error), ctx) from None
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # One line each, without importing the rooms behind them: help answers at once.
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


SUMMARIES = {
    "list": "What there is to choose from.",
    "simulate": "Snapshots of a chosen energy, written to a store.",
    "import": "A file of real snapshots, written to a store.",
    "export": "A store or a run as .npz, .h5ad or the JKOnet* layout.",
    "validate": "Check a store against the format; list every breach.",
    "inspect": "Sizes, provenance, moments, and what can be learned from a store.",
    "train": "Learn the energy back from a store.",
    "score": "How much of the energy came back, beside the reference rows.",
    "predict": "Snapshots of the learned dynamics at any times.",
    "landscape": "Wells of a learned potential, passes between them, and where cells end.",
    "plot": "Figures of a run.",
    "bench": "A whole suite: simulate, train, score, report.",
}


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="popdyn-jko", prog_name="popdyn")
@click.option(
    "--debug", is_flag=True, help="Show the traceback of an error (anywhere on the line)."
)
def group(debug: bool) -> None:
    """Population dynamics from snapshots: simulate a known energy, learn it back, score honestly.

    \b
    Example:
      popdyn simulate --potential styblinski_tang --out st.zarr
      popdyn train st.zarr --out runs/st
      popdyn score runs/st
    """


def main() -> None:
    """Run the command line: status 0 on success, 2 for wrong usage, 1 for everything else."""
    if asked := os.environ.get("_POPDYN_COMPLETE"):
        from popdyn.cli.completion import complete

        sys.exit(complete(asked))
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    keep_freed_memory()
    _open_streams()
    # Whoever stops a job, or closes its terminal, gets the same clean end as a person at the
    # keyboard; what nohup ignores stays ignored.
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        status = group.main(args=arguments, prog_name="popdyn", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        _fail(error.format_message(), debug, error.exit_code, f" ({where} --help)" if where else "")
    except (KeyboardInterrupt, click.exceptions.Abort):
        _interrupted()
    except BrokenPipeError:
        # The reader of a pipe left (`popdyn list | head`): Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except PopdynError as error:
        _fail(str(error), debug)
    except MemoryError as error:
        _fail(f"out of memory: {error}", debug)
    except OSError as error:
        where = f"'{error.filename}': " if error.filename else ""
        _fail(f"{where}{error.strerror or error}", debug)
    except Exception as error:
        _fail(f"unexpected {type(error).__name__}: {error} (--debug shows where)", debug)
    else:
        sys.exit(status if isinstance(status, int) else 0)
    finally:
        # After Zarr's own, so before it: whoever goes on in this process may still read.
        atexit.register(_end_reader)


def _end_reader() -> None:
    """Let the thread in which Zarr reads come to its end.

    Zarr gives it 0.2 s at exit and then closes its event loop, which on a busy machine still runs:
    a traceback after all is done.
    """
    sync = sys.modules.get("zarr.core.sync")
    loop, thread = (getattr(sync, name, [None])[0] for name in ("loop", "iothread"))
    if loop is not None and thread is not None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10.0)


def _open_streams() -> None:
    """Make the standard streams writable, with any text: they may be closed, or ASCII's alone."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # or the next file would take its number, and what is printed
            os.open(os.devnull, os.O_RDWR)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _interrupted() -> NoReturn:
    """End with status 1, as after every other error.

    At once: where the interrupt fell while Python ran a string of code, as dataclasses do when
    they are imported, ``python -m popdyn`` would end by the signal whatever status is returned.
    """
    with contextlib.suppress(OSError):  # the terminal may be gone
        click.echo("popdyn: error: interrupted; what was already written is kept", err=True)
    _end_reader()
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(1)


def _fail(message: str, debug: bool, status: int = 1, hint: str = "") -> None:
    error = sys.exc_info()[1]
    mistake = (KeyboardInterrupt, click.exceptions.Abort, click.ClickException)
    if debug and not isinstance(error, mistake):
        raise  # called only while an exception is being handled
    from popdyn.base.screen import printable

    line = printable(" ".join(message.split()))
    click.echo(f"popdyn: error: {line}{hint}", err=True)
    sys.exit(status)

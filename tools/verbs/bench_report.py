"""`isolane bench report`: documents of other measurements as a page and as plots."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tools.errors import Failure

if TYPE_CHECKING:
    from bench.report import Report

INSTALL = (
    "pip install 'isolane[report]' (in a checkout .venv/bin/pip), or Debian 13's python3-matplotlib if "
    "isolane is in the system's Python"
)


@click.command("report")
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "-o",
    "--output",
    default=Path("report.html"),
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page.",
)
@click.option(
    "--png",
    "directory",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Each plot as a file of its own too.",
)
def report(files: tuple[Path, ...], output: Path, directory: Path | None) -> None:
    """A page of plots and tables from --json documents of bench core, control, tcp, latency and ports.

    The page needs no other file and no network. Several documents of one kind are all shown; runs of bench
    core with other numbers of records become one plot, if they are of the same machine and frames. Needs
    matplotlib, but not the machine that was measured.

    \b
    Example:
      isolane bench tcp --json > tcp.json
      isolane bench report tcp.json latency.json -o report.html --png plots
    """
    made = _made(files)
    try:
        if directory:
            directory.mkdir(parents=True, exist_ok=True)
            for name, png in made.plots.items():
                (directory / name).write_bytes(png)
        output.write_text(made.page, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}") from None
    click.echo(f"{output}: {len(made.plots)} plots of {len(files)} documents", err=True)


def _made(files: tuple[Path, ...]) -> "Report":
    from bench.documents import Unreadable, read

    try:
        sources = [read(path) for path in files]
    except Unreadable as error:
        raise Failure(str(error)) from None
    try:
        from bench.report import make
    except ImportError as error:
        if (error.name or "").startswith("bench"):
            raise
        raise Failure(f"plots need matplotlib: {error}", INSTALL) from None
    return make(sources)

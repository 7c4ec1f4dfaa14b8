"""`isolane edit`: objects in an editor."""

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tools import selection
from tools.errors import Failure
from tools.options import service_of, store_option, tenant_options, timeout_option
from tools.selection import objects_argument
from tools.verbs.apply import WAIT_SECONDS, print_outcomes, wait_for_hosts

if TYPE_CHECKING:
    from policy.errors import ManifestError, ObjectId
    from policy.kinds.manifest import Stated
    from policy.service.service import Done, Service
    from policy.service.views import View

DEFAULT_EDITOR = "vi"
_MARK = "#! "
"""Begins the lines that are ours, which go again."""
_HEAD = "Edit, save and leave. Lines like this one are dropped. Without a change nothing is done."


@click.command("edit", short_help="Change objects in an editor.")
@objects_argument()
@store_option
@tenant_options
@click.option("--wait", is_flag=True, help="Return when every host that it concerns has applied it.")
@timeout_option(WAIT_SECONDS)
def edit(words: tuple[str, ...], location: str, tenant: str | None, wait: bool, timeout: float) -> None:
    """Open objects, as they were stated, in $VISUAL or $EDITOR, and apply what was made of them.

    What is wrong with it is written on top and the editor opened again. Where somebody else has changed an
    object meanwhile, nothing is applied. Nothing is lost: on any failure the file is kept, and named.

    \b
    Example:
      isolane edit port/blue/web
    """
    wanted = selection.parse_names(words)
    with service_of(location) as service:
        views = service.view(selection.find(service, wanted, tenant))
        with _file(_text(views)) as path:
            done = _edited(service, path, views)
        if done is None:
            click.echo("no change", err=True)
            return
        print_outcomes(done)
        if wait:
            wait_for_hosts(service, done, timeout)


def _text(views: "Iterable[View]") -> str:
    from policy.kinds import yaml_writer

    documents = []
    for view in views:
        document = view.document()
        documents.append({key: document[key] for key in view.stated if key in document})
    return yaml_writer.dump(documents)


@contextmanager
def _file(text: str) -> Iterator[Path]:
    """One with the text, which is kept and named when something fails after it was changed."""
    descriptor, name = tempfile.mkstemp(prefix="isolane-edit-", suffix=".yaml")
    path = Path(name)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(_with_remarks([_HEAD], text))
    try:
        yield path
    except BaseException:
        if _is_still(path, text):
            path.unlink()
        else:
            click.echo(f"your edit is kept: {path}", err=True)
        raise
    path.unlink()


def _edited(service: "Service", path: Path, views: "list[View]") -> "Done | None":
    """None: nothing was changed. StaleError: somebody else has changed it. ManifestError: it is wrong, and
    was left so when it was opened again.
    """
    from policy.errors import ManifestError, StaleError
    from policy.kinds import manifest

    expected = {view.identity: view.revision for view in views}
    first = shown = _content(path)
    while True:
        _open_editor(path)
        text = _content(path)
        if text == first:
            return None
        try:
            stated = manifest.decode([(path.name, text.encode())])
            _check_names(stated, expected)
            return service.apply(stated, expected)
        except StaleError as error:
            error.hint = "isolane edit shows it as it is now"
            raise
        except ManifestError as error:
            if text == shown:
                raise
            shown = text
            path.write_text(_with_remarks(_placed(error, path.name), text), encoding="utf-8")


def _check_names(stated: "Stated", expected: "Mapping[ObjectId, int]") -> None:
    """ManifestError: it speaks of an object that was not opened."""
    from policy.errors import ManifestError, Problem

    others = [identity for identity in stated.intent.by_id if identity not in expected]
    if others and not stated.problems:
        text = "another object than was opened; `isolane apply` makes new ones"
        raise ManifestError([Problem(str(identity), "metadata.name", text) for identity in others])


def _placed(error: "ManifestError", file: str) -> list[str]:
    """Its problems, with the lines that they have below these remarks."""
    remarks = [_HEAD]
    shift = 1 + len(error.problems)
    for problem in error.problems:
        where = problem.location
        at = f"line {where.line + shift}: " if where and where.file == file and where.line else ""
        parts = [part for part in (problem.subject, problem.path, problem.text) if part]
        remarks.append(f"{at}{': '.join(parts)}".replace("\n", " "))
    return remarks


def _with_remarks(remarks: "Iterable[str]", text: str) -> str:
    return "".join(f"{_MARK}{remark}\n" for remark in remarks) + text


def _content(path: Path) -> str:
    """What the file says, without our remarks. Failure: it can't be read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    return "".join(line for line in lines if not line.startswith(_MARK.rstrip()))


def _is_still(path: Path, text: str) -> bool:
    try:
        return _content(path) == text
    except Failure:
        return False


def _open_editor(path: Path) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or DEFAULT_EDITOR
    before = signal.signal(
        signal.SIGINT, lambda *_: None
    )  # Ctrl-C is the editor's, which does not inherit it
    try:
        status = subprocess.run([*shlex.split(editor), str(path)], check=False).returncode
    except (OSError, ValueError) as error:
        raise Failure(f"{editor}: {error}", "VISUAL or EDITOR names an editor") from None
    finally:
        signal.signal(signal.SIGINT, before)
    if status:
        raise Failure(f"{editor}: exit status {status}")

"""The commands on intent, as an operator types them, each time with a store of its own."""

from pathlib import Path

from click.testing import CliRunner, Result

from tools.cli import main

MINE = """\
kind: Port
metadata: {name: mine, tenant: blue, labels: {app: front}}
spec: {vmSubnet: Blue_VMSubnet1, host: h1}
"""


class Shell:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.location = str(directory / "store.db")

    def __call__(self, *words: object, stdin: str | None = None, status: int = 0) -> Result:
        environment = {"ISOLANE_STORE": self.location}
        result = CliRunner().invoke(main, [str(word) for word in words], stdin, env=environment)
        assert result.exit_code == status, result.output
        return result

    def file(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path

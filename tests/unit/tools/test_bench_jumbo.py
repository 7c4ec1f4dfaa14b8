"""TCP over a wire of large frames, beside our own over one of small ones: what is printed and reported."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench import documents, tables, tcp
from bench.contest import Contest
from bench.documents import TcpDocument
from tools.verbs import bench_contests

GBPS = {"isolane-nvgre-1600": (4, 3, 5), "isolane-nvgre": (8, 9, 10), "kernel-vxlan": (16, 16, 16)}
RATIO = {"median": 2, "min": 2, "max": 3}


def document(*names: str) -> dict[str, Any]:
    runs = {name: [tcp.Run(1e9 * gbps, 1.0, 7, 2.0) for gbps in GBPS[name]] for name in names}
    contest = Contest(runs, [0.0, 0.0, 0.0], repeated=0)
    result = contest.figures("jumbo", partial(tcp._figures, contest))
    return {"machine": {}, "congestion": "cubic", "versions": {}, "skipped": {}, "results": [result]}


def test_the_ratio_is_that_of_one_round_to_the_same_translation() -> None:
    (result,) = document(*GBPS)["results"]
    found = {name: figures.get("ofOwnAt1600") for name, figures in result["contestants"].items()}
    assert found == {"isolane-nvgre-1600": None, "isolane-nvgre": RATIO, "kernel-vxlan": None}


def test_who_has_none_has_an_empty_cell_and_where_nobody_has_one_is_no_column(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def printed(*names: str) -> str:
        bench_contests._print_tcp(document(*names))
        return capsys.readouterr().out

    head, narrow, wide, _ = printed(*GBPS).splitlines()[1:]
    assert "of own at 1,600" in head and "2.00 (2.00-3.00)" in wide and "2.00 (2.00-3.00)" not in narrow
    assert "of own" not in printed("isolane-nvgre", "kernel-vxlan")

    def reported(*names: str) -> tables.Table:
        path = tmp_path / "tcp.json"
        path.write_text(json.dumps(document(*names)))
        read = documents.read(path).document
        assert isinstance(read, TcpDocument)
        return tables.tcp(read.results[0])

    table = reported(*GBPS)
    column = table.head.index("of own at 1,600")
    assert [row[column] for row in table.rows] == ["", "2.00 (2.00-3.00)", ""]
    assert "of own at 1,600" not in reported("isolane-nvgre", "kernel-vxlan").head

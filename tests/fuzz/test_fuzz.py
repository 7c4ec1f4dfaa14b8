"""libFuzzer harnesses under ASan and UBSan, each from its kept corpus.

15 seconds each, new inputs thrown away; `make fuzz` (ISOLANE_FUZZ_SECONDS) runs longer and keeps them.
"""

import os
from pathlib import Path

import pytest

from tests.native import ROOT, build, names_in, run_sanitized

HARNESSES = names_in("tests/fuzz/meson.build", r"^  '(\w+)',$")
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
SECONDS = int(os.environ.get("ISOLANE_FUZZ_SECONDS", "15"))


@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.parametrize("name", HARNESSES)
def test_fuzz(name: str, tmp_path: Path) -> None:
    kept = CORPUS / name
    assert any(kept.iterdir()), f"no corpus in {kept}"
    new = kept if "ISOLANE_FUZZ_SECONDS" in os.environ else tmp_path
    command = [
        build("fuzz") / "tests" / "fuzz" / name,
        "-seed=1",
        f"-max_total_time={SECONDS}",
        "-timeout=5",
        "-print_final_stats=1",
        f"-artifact_prefix={kept}/crash-",
        new,
        kept,
    ]
    output = run_sanitized(command, timeout=SECONDS + 500)
    print("\n".join(line for line in output.splitlines() if line.startswith("stat::")))

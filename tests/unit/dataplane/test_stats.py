import re
from pathlib import Path

from dataplane.binding.stats import Counters, drop_reasons

DROP_DEF = Path(__file__).parents[3] / "csrc" / "base" / "drop.def"


def test_drop_reasons_are_those_of_drop_def() -> None:
    text = re.sub(r'"\n +"', "", DROP_DEF.read_text())
    lines = re.findall(r'^DROP\(\w+, "([a-z0-9-]+)",\s+"(.+)"\)$', text, re.MULTILINE)
    assert [(r.name, r.text) for r in drop_reasons()[1:]] == lines
    assert drop_reasons()[0].name == "none"


def test_balance_counts_each_packet_once() -> None:
    assert Counters().balance() == 0
    assert Counters(received=10, originated=3, sent=5, dropped=4, consumed=3, held=1).balance() == 0
    for lost in ("sent", "dropped", "consumed", "held"):
        assert Counters(received=1, **{lost: 1}).balance() == 0
        assert Counters(**{lost: 1}).balance() == -1
    assert Counters(originated=1).balance() == 1


def test_sum_adds_drops_by_reason_in_the_order_of_drop_def() -> None:
    first, second = drop_reasons()[1].name, drop_reasons()[2].name
    total = Counters(received=2, drops={second: 1}) + Counters(
        received=3, tx_gso=1, drops={first: 4, second: 2}
    )
    assert total == Counters(received=5, tx_gso=1, drops={first: 4, second: 3})
    assert list(total.drops) == [first, second]

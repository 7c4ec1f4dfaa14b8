"""`get`."""

import json

import pytest
import yaml

from policy.kinds.model import KINDS
from policy.store.locations import open_store
from tests.native import ROOT
from tests.unit.manifests import EXAMPLE
from tests.unit.tools.shell import MINE, Shell


def test_get_a_table(applied: Shell) -> None:
    lines = applied("get", "ports", "--tenant", "red").stdout.splitlines()
    assert lines[0].split()[:2] == ["TENANT", "NAME"]
    assert [line.split()[1] for line in lines[1:]] == ["red-api", "red-app", "red-web"]
    assert max(map(len, lines)) <= 80
    wide = applied("get", "ports", "-t", "red", "-o", "wide").stdout.splitlines()
    assert "02:bb:00:00:00:11" in wide[1]


def test_get_json_and_yaml_say_what_was_stated_and_what_was_allocated(applied: Shell) -> None:
    document = json.loads(applied("get", "port", "blue-web", "-o", "json").stdout)
    assert document["spec"]["addresses"] == ["10.1.1.10", "fd00:1:1::10"]
    assert list(document["given"]) == ["providerAddresses"]
    assert document == yaml.safe_load(applied("get", "port", "blue/blue-web", "-o", "yaml").stdout)
    listed = json.loads(applied("get", "PORTS", "-o", "json").stdout)
    assert [each["metadata"]["name"] for each in listed][:2] == ["blue-api", "blue-app"]
    assert document in listed


@pytest.mark.parametrize("output", ["yaml", "json"])
def test_what_get_prints_can_be_applied(shell: Shell, output: str) -> None:
    shell("apply", "-f", ROOT / "examples" / "walkthrough")
    printed = {kind: shell("get", kind, "-o", output).stdout for kind in KINDS}
    files = [shell.file(f"{kind}.{output}", text) for kind, text in printed.items()]
    words = [word for path in files for word in ("-f", path)]
    lines = shell("apply", *words).stdout.splitlines()
    assert len(lines) == 21 and {line.rpartition(" ")[2] for line in lines} == {"unchanged"}
    one = shell("get", "port", "blue-web", "-o", output).stdout
    assert shell("diff", "-f", "-", stdin=one).stdout == ""
    if output == "yaml":
        everything = "".join(printed.values())
        assert everything.count("---\n") == 21
        assert shell("diff", "-f", "-", stdin=everything).stdout == ""


def test_get_names_and_labels(applied: Shell) -> None:
    applied("apply", "-f", "-", stdin=MINE)
    assert applied("get", "port", "-l", "app=front", "-o", "name").stdout == "port/blue/mine\n"
    assert applied("get", "port", "-l", "app=back", "-o", "json").stdout == "[]\n"
    assert applied("get", "host", "h1", "-o", "name").stdout == "host/h1\n"
    assert "there is no Host h9" in applied("get", "host", "h9", status=1).stderr
    assert "'prot' is not a kind\nhint: did you mean port?\n" in applied("get", "prot", status=2).stderr
    assert "hint: did you mean ports?" in applied("get", "prots", status=2).stderr


def test_get_of_nothing(applied: Shell) -> None:
    def error(*words: str, status: int = 0) -> str:
        result = applied("get", *words, status=status)
        assert result.stdout == ""
        return result.stderr

    assert error("ippools") == "no IPPools\n"
    assert error("provideraddress") == "no ProviderAddresses\n"
    assert error("ippools", "--tenant", "blue") == "no IPPools of tenant blue\n"
    assert error("ports", "-l", "app=x") == "no Ports with such labels\n"
    assert error("ippools", "-o", "name") == error("ippools", "-o", "yaml") == ""
    assert error("ports", "--tenant", "nope", status=1) == "error: there is no Tenant nope\n"
    assert error("ports", "--tenant", "nope", "-o", "json", status=1) == "error: there is no Tenant nope\n"


def test_get_of_a_name_within_what_is_asked_for(applied: Shell) -> None:
    for words, expected in (
        (["blue-web", "--tenant", "red"], "red/blue-web"),
        (["api", "--tenant", "blue"], "blue/api"),
    ):
        error = applied("get", "port", *words, status=1)
        assert error.stdout == "" and error.stderr.splitlines()[0] == f"error: there is no Port {expected}"
    network = MINE.replace("Port", "VMNetwork").replace("mine", "Red_VMNet").partition("spec")[0]
    applied("apply", "-f", "-", stdin=network + "spec: {logicalNetwork: fabric}")
    words = ["get", "vmnetwork", "Red_VMNet", "-o", "name"]
    assert "several tenants have a VMNetwork Red_VMNet" in applied(*words, status=1).stderr
    assert applied(*words, "--tenant", "red").stdout == "vmnetwork/red/Red_VMNet\n"


# ---- names, kinds, tenants, selectors ------------------------------------------------------------


def names(shell: Shell, *words: object) -> list[str]:
    return shell("get", *words, "-o", "name").stdout.split()


def test_several_names_and_kinds(applied: Shell) -> None:
    assert names(applied, "ports", "blue-web", "red/red-api") == ["port/blue/blue-web", "port/red/red-api"]
    assert names(applied, "port/blue/blue-web", "host/h1") == ["port/blue/blue-web", "host/h1"]
    assert names(applied, "po/blue-web", "HO/h1", "po/blue/blue-web") == ["port/blue/blue-web", "host/h1"]
    assert len(names(applied, "ports,hosts")) == len(names(applied, "po")) + len(names(applied, "ho"))
    assert len(names(applied, "all")) == 17
    tables = applied("get", "hosts,ports").stdout
    assert tables.startswith("NAME ") and "\n\nNAME " in tables and "port/red/red-web" in tables
    both = json.loads(applied("get", "port/blue-web", "host/h1", "-o", "json").stdout)
    assert [each["kind"] for each in both] == ["Port", "Host"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["port/blue-web", "h1"], "'h1' is not KIND/NAME"),
        (["all", "h1"], "all takes no names"),
        (["port/\udcff"], "is not UTF-8"),
        (["ports", "-t", "\udcff"], "is not UTF-8"),
        (["port/"], "'port/' is not KIND/NAME"),
        (["ports,prots"], "'prots' is not a kind"),
        (["ports", "-o", "jsonpath"], "'jsonpath' is not one of table, wide"),
        (["ports", "-o", "jsonpath={.a"], "is not a path"),
        (["ports", "--sort-by", "a b"], "'a b' is not a path"),
        (["ports", "-l", "a=b,,c"], "is not a selector"),
        (["ports", "-t", "blue", "-A"], "either -t or -A"),
        (["port", "blue-web", "-l", "a=b"], "either names or -l"),
    ],
)
def test_what_names_nothing(applied: Shell, words: list[str], error: str) -> None:
    assert error in applied("get", *words, status=2).stderr


def test_what_is_printed_is_taken(applied: Shell) -> None:
    found = names(applied, "ports", "-t", "blue")
    assert len(found) == 5
    lines = applied("delete", *found).stdout.splitlines()
    assert sorted(lines) == [f"{name} deleted" for name in sorted(found)]
    assert names(applied, "ports") == ["port/red/red-api", "port/red/red-app", "port/red/red-web"]


def test_tenants(applied: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(applied, "hosts", "-t", "blue") == ["host/h1", "host/h2"]
    assert names(applied, "host", "h1", "-t", "blue") == ["host/h1"]
    assert names(applied, "port", "blue-web", "-t", "blue") == ["port/blue/blue-web"]
    assert len(names(applied, "all", "-t", "red")) == 5
    monkeypatch.setenv("ISOLANE_TENANT", "red")
    assert len(names(applied, "ports")) == 3
    assert len(names(applied, "ports", "-A")) == 8


def test_selectors(applied: Shell) -> None:
    for name, app in (("one", "front"), ("two", "back"), ("three", "mail")):
        text = MINE.replace("mine", name).replace("front", app)
        applied("apply", "-f", "-", stdin=text.replace("}", ", old: x}", 1) if app == "mail" else text)

    def found(selector: str) -> set[str]:
        return {name.rpartition("/")[2] for name in names(applied, "ports", "-l", selector)}

    assert found("app=front") == {"one"}
    assert found("app in (front, back)") == {"one", "two"}
    assert found("app,app!=front") == {"two", "three"}
    assert found("app,app notin (mail)") == {"one", "two"}
    assert found("app,!old") == {"one", "two"}
    assert found("old") == {"three"}


def test_what_is_not_there(applied: Shell) -> None:
    error = applied("get", "port", "blue-wbe", status=1)
    assert error.stderr == "error: there is no Port blue-wbe\nhint: did you mean blue-web or blue-db?\n"
    assert "hint: did you mean h1?" in applied("get", "host", "hh1", status=1).stderr
    assert applied("get", "port", "none", "--ignore-not-found").output == ""
    assert names(applied, "port/none", "port/red-api", "--ignore-not-found") == ["port/red/red-api"]
    assert "hint: did you mean blue?" in applied("get", "ports", "-t", "bleu", status=1).stderr
    assert "hint: did you mean h1?" in applied("compile", EXAMPLE, "--host", "hh1", status=1).stderr


# ---- formats -------------------------------------------------------------------------------------


def test_templates(applied: Shell) -> None:
    one = applied("get", "port/blue-web", "-o", "jsonpath={.spec.host} {.spec.addresses[1]}")
    assert one.stdout == "h1 fd00:1:1::10\n"
    each = '{range .items[*]}{.metadata.name}={.spec.host}{"\\n"}{end}'
    lines = applied("get", "ports", "-t", "red", "-o", f"jsonpath={each}").stdout.splitlines()
    assert lines == ["red-api=h1", "red-app=h2", "red-web=h1"]
    columns = "custom-columns=NAME:.metadata.name,PA:.spec.providerAddresses[0],NONE:.spec.none"
    assert applied("get", "hosts", "-o", columns).stdout.splitlines() == [
        "NAME  PA              NONE",
        "h1    192.168.77.101  <none>",
        "h2    192.168.77.102  <none>",
    ]


def test_order_and_headings(applied: Shell) -> None:
    by_address = names(applied, "ports", "-t", "blue", "--sort-by", ".spec.addresses[0]")
    ends = ["web", "api", "app", "cache", "db"]
    assert by_address == [f"port/blue/blue-{end}" for end in ends]
    by_vsid = names(applied, "vmsubnets", "--sort-by", "{.spec.vsid}")
    assert [name[-7:] for name in by_vsid] == ["Subnet1", "Subnet2", "Subnet1"]
    bare = applied("get", "hosts", "--no-headers").stdout.splitlines()
    assert [line.split()[0] for line in bare] == ["h1", "h2"]
    applied("apply", "-f", "-", stdin=MINE)
    heading, row = applied("get", "port", "mine", "--show-labels").stdout.splitlines()
    assert heading.split()[-1] == "LABELS" and row.split()[-1] == "app=front"


def test_states_and_ages(applied: Shell) -> None:
    def states() -> dict[str, str]:
        rows = [line.split() for line in applied("get", "ports", "--no-headers").stdout.splitlines()]
        return {row[1]: row[-2] for row in rows}

    assert set(states().values()) == {"-"}
    store = open_store(applied.location)
    problem = {"problems": ["port red/red-web: is gone"], "ports": ["red/red-web"]}
    for host, state in (("h1", {"state": "failed", **problem}), ("h2", {"state": "applied", "problems": []})):
        store.commit({f"host/{host}": json.dumps({"revision": 1, **state}).encode()})
    store.close()
    found = states()
    assert (found["red-web"], found["red-api"], found["red-app"]) == ("failed", "applied", "applied")
    applied("apply", "-f", "-", stdin=MINE)
    assert states()["mine"] == "pending"
    rows = applied("get", "hosts", "--no-headers").stdout.splitlines()
    assert [row.split()[-2] for row in rows] == ["failed", "applied"]
    assert rows[0].split()[-1].endswith("s")


@pytest.mark.parametrize("example", ["blue-red.yaml", "raw-records.yaml", "walkthrough"])
def test_tables_fit(shell: Shell, example: str) -> None:
    shell("apply", ROOT / "examples" / example)
    for kind in (*KINDS, "all"):
        lines = shell("get", kind).stdout.splitlines()
        assert max(map(len, lines), default=0) <= 100


@pytest.mark.parametrize("words", [[","], [""], [",,"], ["", "x"], ["port", ""], ["port", "x", ""]])
def test_who_names_nothing_is_told(applied: Shell, words: list[str]) -> None:
    result = applied("get", *words, status=2)
    assert result.stdout == ""
    assert result.stderr.startswith(("error: no kind is named\n", "error: a name is empty\n"))

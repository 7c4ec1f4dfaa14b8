"""The part of JSONPath that -o jsonpath takes."""

from typing import Any

import pytest

from tools import formats, jsonpath

DOCUMENT: dict[str, Any] = {
    "name": "web",
    "up": True,
    "mtu": 1458,
    "labels": {"example.com/app": "shop"},
    "items": [{"name": "a", "tags": ["x", "y"]}, {"name": "b"}],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{.name}", "web"),
        ("{$.name} is {.up}, {.mtu}", "web is true, 1458"),
        ("{.labels['example.com/app']}", "shop"),
        ("{.items[*].name}", "a b"),
        ("{.items[-1].name}{.items[0].tags[1]}", "by"),
        ("{.items[0].tags}", '["x","y"]'),
        ("{.none}{.items[7].name}{.name.more}", ""),
        ('{range .items[*]}{.name}:{"\\t"}{.tags[*]}{"\\n"}{end}.', "a:\tx y\nb:\t\n."),
        ("{range .items[*]}{range .tags[*]}<{@}>{end}{end}", "<x><y>"),
        ("no path", "no path"),
    ],
)
def test_templates(template: str, text: str) -> None:
    assert jsonpath.template(template).text(DOCUMENT) == text


@pytest.mark.parametrize(
    "template",
    [
        "{.a b}",
        "{.items[x]}",
        "{range .items[*]}",
        "{end}",
        "{.a",
        "a}",
        '{"open}',
        "{.items[?(@.a)]}",
        "{.a[" + "9" * 5000 + "]}",
    ],
)
def test_what_is_no_template(template: str) -> None:
    with pytest.raises(jsonpath.PathError):
        jsonpath.template(template)


def test_numbers_in_texts_are_sorted_by_their_value() -> None:
    """Whatever else a text has that looks like one."""
    texts = ["", "x", "x\u00b2", "x2", "x10", "x010a", "x" + "1" * 5000]
    documents = [{"name": text} for text in texts]
    path = jsonpath.path(".name")
    assert [each["name"] for each in sorted(documents, key=lambda each: formats.order(each, path))] == [
        "", "x", "x2", "x10", "x010a", "x" + "1" * 5000, "x\u00b2",
    ]  # fmt: skip

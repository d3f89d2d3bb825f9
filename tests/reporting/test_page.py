import html.parser
import re

import pytest
from PIL import Image
from test_views import CONTENT

from dim.reporting.page import Picture, Section, page, table_html
from dim.reporting.views import view


class Reader(html.parser.HTMLParser):
    """Collects what a page refers to and checks that its elements are closed in order."""

    VOID = ("meta", "img", "br")

    def __init__(self):
        super().__init__()
        self.open, self.references, self.ids, self.alts = [], [], [], []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.references += [values[name] for name in ("src", "href") if name in values]
        self.ids += [values["id"]] if "id" in values else []
        if tag == "img":
            self.alts.append(values.get("alt"))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def text(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    tables, shown = Section("tables", "Tables", [table_html(view(CONTENT))]), Section("shown", "Shown")
    shown.show([Picture(tmp_path / "x.png", "<b>caption</b>", 'a "black" square')])
    return page("A title", "About", [tables, shown, Section("empty", "Empty")])


def test_the_page_is_whole_and_needs_nothing_else(text):
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert all(reference.startswith(("data:image/", "#")) for reference in reader.references)
    assert {reference[1:] for reference in reader.references if reference.startswith("#")} <= {*reader.ids}
    assert reader.alts == ['a "black" square']
    assert "<script" not in text
    assert not re.search(r"url\(|@import|https?://", text)
    assert "viewport" in text
    assert "prefers-color-scheme: dark" in text
    assert "empty" not in reader.ids


def test_every_row_has_a_cell_under_each_heading():
    content = {
        **CONTENT,
        "rows": [{**CONTENT["rows"][0]}, {**CONTENT["rows"][0], "row": "Sup", "config": "supervised"}],
    }
    head, *rows = re.findall(r"<tr>(.*?)</tr>", table_html(view(content)))
    titles = re.findall(r"<th[^>]*>(.*?)</th>", head)
    assert titles == ["row", "conv", "fc", "Y", "classifier"]
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]
    assert [len(line) for line in cells] == [len(titles)] * 2
    assert cells[0][4] == ""
    assert [re.match(r"[\d.]*", cell).group() for cell in cells[0][1:4]] == ["50.71", "", "84.61"]


def test_text_is_escaped(text):
    assert "&lt;b&gt;caption" in text
    assert "<b>caption" not in text


def test_differences_are_coloured_by_their_side(text):
    cells = re.findall(r'<td class="(above|below)" style="--depth: ([\d.]+)"', text)
    assert [side for side, _ in cells] == ["below", "above"]
    assert float(cells[1][1]) > float(cells[0][1])

from pathlib import Path

import pytest
from test_views import CONTENT

from dim.errors import UserError
from dim.reporting.text import BEGIN, END, latex, markdown, readme_section, update_readme, with_section
from dim.reporting.views import view
from dim.reproduction.results import read_all

ROOT = Path(__file__).parent.parent.parent


def test_markdown_and_latex_hold_every_number():
    table = view(CONTENT)
    text = markdown(table)
    assert (
        "| VAE (not trained yet) | 2 |  | 0 | 60.71 / 50.71 ± 1.50 (-10.00) | 60.54 / - | 54.61 / 84.61 (+30.00) |"
        in text
    )
    text = latex(table)
    assert r"VAE (not trained yet) & 2 &  & 0 & 50.71 $\pm$ 1.50 & - & 84.61 \\" in text
    assert r"\textcolor{gray}{60.71}" in text
    assert "accuracy in \\%" in text


def test_labels_of_one_s_own_are_typeset_as_they_are():
    row = {**CONTENT["rows"][0], "row": r"a|b ~$x_1^2$ {50%} #1 <c\d>"}
    table = view({**CONTENT, "rows": [row], "budget": {**CONTENT["budget"], "options": ["---model.gamma", "0"]}})
    assert r"| a\|b ~$x_1^2$" in markdown(table)
    text = latex(table)
    escaped = r"a|b \textasciitilde{}\$x\_1\textasciicircum{}2\$ \{50\%\} \#1 $<$c\textbackslash{}d$>$"
    assert escaped in text
    assert "Changed by -{}-{}-model.gamma 0." in text


def test_a_readme_keeps_everything_but_what_is_between_its_markers(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    update_readme(path, [])
    assert path.read_text() == f"before\n{BEGIN}\n\nNo results are kept yet.\n\n{END}\nafter\n"
    path.write_text("nothing here")
    with pytest.raises(UserError, match="does not say where results belong"):
        update_readme(path, [])
    assert path.read_text() == "nothing here"


def test_the_readme_s_results_are_those_of_the_committed_files():
    readme = ROOT / "README.md"
    text = readme.read_text()
    section = readme_section(read_all(ROOT / "benchmarks" / "results"))
    assert with_section(text, section, readme) == text, (
        "run: dim report --results benchmarks/results --readme README.md"
    )


def test_the_command_under_a_table_is_the_one_that_makes_it():
    content = read_all(ROOT / "benchmarks" / "results")[0]
    content["budget"]["options"] = ["--trainer.max_epochs", "20"]
    content["rows"][0]["seeds"] *= 3
    command = "dim reproduce table1 --data cifar10 --budget cpu --seeds 3 -- --trainer.max_epochs 20"
    assert f"`{command}`" in readme_section([content])

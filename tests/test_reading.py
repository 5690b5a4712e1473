"""Every formula stands on its page, in both languages, beside the code that computes it."""

import re

import pytest
from cogapp.cogapp import Cog, CogError

from conftest import FOLDERS, ROOT
from docs import pages, reading

COUNTED = {4503: 7, 4493: 12, 7805: 7, 4638: 2, 4598: 8, 4647: 15, 4669: 13, 4681: 7}
POSTS = [
    (row["folder"], post["number"])
    for row in pages.articles()
    for post in row["posts"]
    if row["folder"] in FOLDERS
]
LANGUAGES = ("en", "zh")
FORMULAS = [(folder, name) for folder in FOLDERS for name in reading.formulas(folder)]


def page_of(folder: str, post: int, language: str) -> str:
    page = ROOT / folder / pages.reading_page(folder, post, language)
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize(("folder", "post"), POSTS)
def test_every_formula_of_a_post_is_counted(folder, post):
    listed = [row["id"] for row in reading.formulas(folder).values() if row["post"] == post]
    assert len(listed) == COUNTED[post]
    for language in LANGUAGES:
        found = re.findall(r'<div class="formula" id="(\w+)">', page_of(folder, post, language))
        assert sorted(found) == sorted(listed), language


@pytest.mark.parametrize(("folder", "name"), FORMULAS)
def test_a_formula_stands_beside_its_code(folder, name, capsys):
    reading.formula(folder, name)
    block = capsys.readouterr().out.strip()
    row = reading.formulas(folder)[name]
    assert row["latex"] in block and "```python\n" in block
    for part in row["code"].split(" "):
        path, _, functions = part.partition(":")
        for function in functions.split(","):
            assert reading.cut(f"{folder}/{path}", function) in block
    for language in LANGUAGES:
        assert block in page_of(folder, row["post"], language), language


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_claim_of_a_folder_is_read_somewhere(folder, language):
    names = {name: post for name, post in POSTS if name == folder}
    posts = [post for name, post in POSTS if name in names and name == folder]
    text = "".join(page_of(folder, post, language) for post in posts)
    missing = [row["id"] for row in pages.claims(folder) if f'id="{row["id"]}"' not in text]
    assert missing == []


@pytest.mark.parametrize(("folder", "post"), POSTS)
def test_sections_link_to_the_post(folder, post):
    for language in LANGUAGES:
        headings = re.findall(r"^## (.*)$", page_of(folder, post, language), re.M)
        assert sum("https://kexue.fm/archives/" in heading for heading in headings) >= 2


WRONG = {
    'formula("master_equation", "markof")': "no markof; near it: markov",
    'figure("master_equation", "run_eror", "")': "no run_eror; near it: run_error",
    'verdicts("master_equation", "en", "C4.9")': "no C4.9; near it: C4.",
    'say("master_equation", "{run[discrete][kepd]}")': "no kepd; near it: kept",
    'code("master_equation/run.py", "constrian")': "no constrian; near it: constrain",
}


@pytest.mark.skipif("master_equation" not in FOLDERS, reason="needs master_equation")
@pytest.mark.parametrize("call", WRONG)
def test_a_wrong_name_is_told_with_page_line_and_near_names(call):
    cog = Cog()
    cog.options.prologue = "from docs.pages import *; from docs.reading import *"
    with pytest.raises(CogError) as told:
        cog.process_string(f"# Title\n\n<!-- [[[cog {call} ]]] -->\n<!-- [[[end]]] -->\n", "a.md")
    assert "a.md:3: " in str(told.value) and WRONG[call] in str(told.value)


def test_code_brings_what_it_needs_and_nothing_else(tmp_path, monkeypatch):
    source = (
        "import os\nimport numpy as np\nfrom math import pi, e, sin\n\nA, B = 1, 2  # two\n\n\n"
    )
    function = "def f(half, x):\n    return half + np.sin(x) * B * pi + sin(x)\n"
    source += f"def half(x):\n    return x / 2\n\n\n{function}"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.py").write_text(source)
    monkeypatch.setattr(reading, "ROOT", tmp_path)
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    wanted = "import numpy as np\nfrom math import pi, sin\n\nA, B = 1, 2  # two\n\n\n" + function
    assert reading.standing_alone("folder/a.py", ["f"]) == wanted.strip()

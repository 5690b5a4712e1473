"""Settings of Sphinx for the site: MyST reads the pages as GitHub does, Furo draws them.

Three small additions: sections are numbered s1, s2, … in both languages, so that a link finds the
same place in the other one; formulas are left to KaTeX, which ships with the site; a search finds
Chinese words without a segmenter.
"""

import re

from docutils import nodes
from sphinx.locale import _ as translated
from sphinx.search import SearchLanguage

LANGUAGES = {
    "en": ("kexue.fm, reproduced", "zh", "中文"),
    "zh_CN": ("科学空间文章复现", "en", "English"),
}

# Furo's own words, for which Sphinx has no Chinese
CHINESE = {"Previous": "上一页", "Next": "下一页", "Home": "首页"}

extensions = ["myst_parser", "sphinx_copybutton"]
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 3
templates_path = ["_templates"]
html_theme = "furo"
html_css_files = ["katex/katex.css", "site.css"]
html_js_files = ["katex/katex.min.js", "site.js"]
html_use_index = False
html_copy_source = False
html_math_renderer = "katex"
html_title = ""
smartquotes = False  # a quotation mark in the text is the one that was written
pygments_style = "default"
pygments_dark_style = "github-dark"
project = "kexue.fm"
copyright = "MIT"
html_show_copyright = False
copybutton_selector = "div.highlight pre"


class Chinese(SearchLanguage):
    """Index runs of characters and their pairs; three or more are sought inside the runs."""

    lang = "zh"
    language_name = "Chinese"

    def split(self, input):
        runs = re.findall(r"\w+", input)
        chinese = [run for run in runs if not run.isascii()]
        pairs = [run[start : start + 2] for run in chinese for start in range(len(run) - 1)]
        return runs + pairs

    def word_filter(self, word):
        return len(word) > 1


def number_sections(app, doctree):
    """Give every section the id s1, s2, …, the same in both languages."""
    for number, section in enumerate(doctree.findall(nodes.section)):
        section["ids"].insert(0, f"s{number}")


def inline_formula(self, node):
    self.body.append(f'<span class="tex">{self.encode(node.astext())}</span>')
    raise nodes.SkipNode


def formula(self, node):
    self.body.append(f'<div class="tex display">{self.encode(node.astext())}</div>')
    raise nodes.SkipNode


def other_language(app, pagename, templatename, context, doctree):
    """What the link to the other language needs: its address and its name."""
    title, folder, name = LANGUAGES[app.config.language]
    context["docstitle"] = title
    context["other_page"] = "../" * (pagename.count("/") + 1) + f"{folder}/{pagename}.html"
    context["other_name"] = name
    if folder == "en":  # this is the Chinese page
        context["gettext"] = lambda text: CHINESE.get(text) or translated(text)


def setup(app):
    app.add_search_language(Chinese)
    app.add_html_math_renderer("katex", (inline_formula, None), (formula, None))
    app.connect("doctree-read", number_sections, priority=100)
    app.connect("html-page-context", other_language)

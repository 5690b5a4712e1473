"""Build site/: the READMEs and reading pages of all folders, in English and Chinese.

Run:   make site        or        python -m docs.site.build
Makes: site/index.html, which leads to site/en/index.html or site/zh/index.html

The pages are generated anew (cog), so that the site shows what the sources and results say now. A
page that names a function, figure, result or file that is not there ends the build with the page,
its line and near names. Sphinx does the rest; see conf.py.
"""

import base64
import difflib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cogapp.cogapp import Cog, CogError

from docs import pages
from docs.site import overview

HERE = Path(__file__).resolve().parent
ROOT = pages.ROOT
SITE = ROOT / "site"
PROLOGUE = "from docs.pages import *; from docs.reading import *"
LINK = r'(?P<before>\]\(|<img [^>]*src=")(?P<target>[^)\s"]+)(?P<after>[)"])'
NO_LINK = r"<!--.*?-->|^```.*?^```|^\$\$.*?^\$\$|`[^`\n]+`"  # calls, code, formulas


# ---------------------------------------------------------------- pages of the repository
def sources(language: str) -> dict[str, Path]:
    """Name of a page on the site → the page of the repository that it shows."""
    end = {"en": ".md", "zh": ".zh-CN.md"}[language]
    found = {"README.md": ROOT / f"README{end}", "data/README.md": ROOT / "data" / f"README{end}"}
    for folder in pages.folders():
        for page in sorted((ROOT / folder).glob("*.md")):
            name = page.name.removesuffix(".zh-CN.md").removesuffix(".md")
            if page.name == name + end:
                found[f"{folder}/{name}.md"] = page
    return found


def generated(page: Path) -> str:
    """The text of a page with all that cog writes into it, fresh; ValueError if a call fails."""
    cog = Cog()
    cog.options.print_output, cog.options.prologue = True, PROLOGUE
    name = str(page.relative_to(ROOT))
    try:
        return cog.process_string(page.read_text(encoding="utf-8"), fname=name)
    except SyntaxError as error:
        raise ValueError(
            f"{error.filename.strip('<>').removeprefix('cog ')}: {error.msg}"
        ) from None
    except CogError as error:
        lines = str(error).strip().splitlines()
        complaint = lines[-1].removeprefix("KeyError: ").strip("\"'")
        line = re.search(r"line (\d+)", lines[0])
        where = "" if complaint.startswith(name) else f"{name}:{line[1] if line else '?'}: "
        raise ValueError(where + complaint) from None


def linked(page: Path, text: str, name: str, names: dict[str, Path], tree: Path) -> str:
    """The text with its links made for the site; files it links to are copied into the tree."""
    beside = {source: target for target, source in names.items()}

    def one(match: re.Match) -> str:
        target, mark, anchor = (match["target"] or "").partition("#")
        path = (page.parent / target).resolve()
        if "://" in target or not target:
            return match[0]
        line = text[: match.start()].count("\n") + 1
        if not path.exists():
            near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")])
            raise ValueError(
                f"{page.relative_to(ROOT)}:{line}: no {target}; near it: {', '.join(near) or '-'}"
            )
        depth = "../" * name.count("/")
        if path in beside:
            return f"{match['before']}{depth}{beside[path]}{mark}{anchor}{match['after']}"
        if path.is_dir():
            return f"{match['before']}{depth}index.md{match['after']}"
        inside = tree / path.relative_to(ROOT)
        inside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, inside)
        return f"{match['before']}{depth}{path.relative_to(ROOT)}{match['after']}"

    return re.sub(f"{NO_LINK}|{LINK}", one, text, flags=re.M | re.S)


def assemble(language: str, tree: Path) -> None:
    """Write every page of one language into the tree that Sphinx reads."""
    names, texts = sources(language), {}
    for name, page in names.items():
        lines = generated(page).split("\n")
        if "[English](" in lines[0] or "[中文](" in lines[0]:
            lines[0] = ""  # the link to the other language: every page of the site has its own
        texts[name] = "\n".join(lines)
    for name, text in texts.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        body = linked(names[name], text, name, names, tree)
        (tree / name).write_text(body, encoding="utf-8")
    for name, text in overview.pages_of_the_site(language, texts).items():
        (tree / name).write_text(text, encoding="utf-8")


# ---------------------------------------------------------------- Sphinx
def katex_with_fonts() -> str:
    """KaTeX's style sheet with its fonts inside: some browsers load no font file from a disk."""
    folder = HERE / "_static" / "katex"
    text = (folder / "katex.min.css").read_text(encoding="utf-8")

    def inlined(match: re.Match) -> str:
        font = base64.b64encode((folder / match[1]).read_bytes()).decode()
        return f'url(data:font/woff2;base64,{font}) format("woff2")'

    return re.sub(r"url\((fonts/[\w-]+\.woff2)\)[^;}]*", inlined, text)


def build(language: str, site: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place).resolve()
        assemble(language, tree)
        static = tree / "_static"
        shutil.copytree(HERE / "_static", static, ignore=shutil.ignore_patterns("fonts", "*.css"))
        (static / "katex" / "katex.css").write_text(katex_with_fonts(), encoding="utf-8")
        shutil.copy(HERE / "_static" / "site.css", static)
        options = ["-q", "-W", "--keep-going", "-c", str(HERE), "-d", str(tree / ".doctrees")]
        settings = ["-D", f"language={LOCALES[language]}", "-D", f"html_static_path={static}"]
        command = [sys.executable, "-m", "sphinx", *options, *settings, str(tree)]
        finished = subprocess.run(
            [*command, str(site / language)], capture_output=True, text=True, encoding="utf-8"
        )
        if finished.returncode:
            complaint = (finished.stderr + finished.stdout).replace(f"{tree}/", "")
            raise ValueError(f"Sphinx, {language}:\n{complaint.strip()}")


LOCALES = {"en": "en", "zh": "zh_CN"}


def main(site: Path = SITE) -> None:
    started = time.perf_counter()
    shutil.rmtree(site, ignore_errors=True)
    for language in LOCALES:
        build(language, site)
    shutil.copy(HERE / "choose.html", site / "index.html")
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) / 1e6
    print(f"Wrote {site}/index.html, {size:.1f} MB in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

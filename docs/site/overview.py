"""The pages of the site that no folder has: the home page and the page of all claims."""

import html
import re

from docs import pages

WORDS = {
    "title": {"en": "kexue.fm, reproduced", "zh": "科学空间文章复现"},
    "lead": {
        "en": "Eight posts of the blog [科学空间](https://kexue.fm) beside the code that computes "
        "their formulas, and what came out when it ran.",
        "zh": "[科学空间](https://kexue.fm)的八篇文章：公式旁边是计算它的代码，下面是运行得到的结果。",
    },
    "claims": {"en": "All claims", "zh": "全部论断"},
    "colon": {"en": ": ", "zh": "："},
    "posts": {"en": "Posts", "zh": "文章"},
    "folders": {"en": "Run it yourself", "zh": "自己运行"},
    "about": {"en": "The repository", "zh": "仓库"},
    "post": {"en": "post", "zh": "文章"},
    "verdict": {"en": "verdict", "zh": "结论"},
    "all": {"en": "all", "zh": "全部"},
    "shown": {"en": "claims shown", "zh": "条论断"},
    "article": {"en": "post says", "zh": "原文"},
    "here": {"en": "here", "zh": "实测"},
    "claim": {"en": "claim", "zh": "论断"},
    "recorded": {"en": "recorded run", "zh": "记录的运行"},
}


def words(language: str) -> dict[str, str]:
    return {name: both[language] for name, both in WORDS.items()}


# ---------------------------------------------------------------- home
def posts(texts) -> list[tuple[dict, dict, str]]:
    """(folder's entry, post, name of its page on the site) for the posts that have a page."""
    found = []
    for article in pages.articles():
        for post in article["posts"]:
            name = f"{article['folder']}/{pages.reading_page(article['folder'], post['number'])}"
            readme = f"{article['folder']}/README.md"
            name = name if name in texts else readme
            if name in texts:
                found.append((article, post, name))
    return found


def folder_pages(texts) -> list[str]:
    """Each folder's README, and what else it has beside its reading pages."""
    found = []
    for folder in pages.folders():
        own = [name for name in texts if name.startswith(f"{folder}/") and "/reading" not in name]
        found += sorted(own, key=lambda name: "README" not in name)
    return found


def first_figure(text: str) -> str:
    """The first figure that a page shows; "" if it shows none."""
    found = re.search(r'!\[[^\]]*\]\((figures/[^)]+)\)|src="(figures/[^"]+)"', text)
    return found[1] or found[2] if found else ""


def card(article: dict, post: dict, name: str, text: str, language: str) -> str:
    """A post on the home page: picture, title, question and headline."""
    folder = article["folder"]
    title = f"{post['number']} {post['title']}"
    picture = post.get("figure") or first_figure(text)
    lines = ['<div class="card">\n']
    if picture:
        lines.append(f"[![{title}]({folder}/{picture})]({name})\n")
    lines += [f"**[{title}]({name})**\n", f"{post['question'][language]}\n"]
    headline = pages.filled(folder, post["headline"][language])
    return "\n".join([*lines, f"*{headline}*\n\n</div>\n"])


def home(language: str, texts: dict[str, str]) -> str:
    say = words(language)
    found = posts(texts)
    cards = [card(article, post, name, texts[name], language) for article, post, name in found]
    contents = {
        say["posts"]: [name for _, _, name in found if "/reading" in name],
        say["folders"]: folder_pages(texts),
        say["about"]: ["claims.md", "README.md", "data/README.md"],
    }
    trees = [
        f"```{{toctree}}\n:hidden:\n:maxdepth: 1\n:caption: {title}\n\n"
        + "\n".join(rows)
        + "\n```\n"
        for title, rows in contents.items()
        if rows
    ]
    total = pages.counts(language)
    counted = " · ".join(f"{number} {word}" for word, number in total.items() if number)
    claims = f"[{say['claims']}](claims.md){say['colon']}{counted}"
    parts = [f"# {say['title']}\n", say["lead"] + "\n", claims + "\n"]
    return "\n".join([*parts, '<div class="cards">\n', *cards, "</div>\n", *trees])


# ---------------------------------------------------------------- all claims
def escaped(text: str) -> str:
    """Text as HTML, with what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def menu(name: str, title: str, options: dict[str, str], every: str) -> str:
    choices = "".join(f'<option value="{value}">{text}</option>' for value, text in options.items())
    choices = f'<option value="">{every}</option>{choices}'
    return f'<label>{title} <select data-filter="{name}">{choices}</select></label>'


def page_of_claim(folder: str, name: str, texts: dict[str, str]) -> str:
    """Address of the place that speaks of a claim: a reading page of its folder, or its README."""
    for page, text in texts.items():
        if page.startswith(f"{folder}/reading") and f'id="{name}"' in text:
            return f"{page.removesuffix('.md')}.html#{name}"
    return f"{folder}/README.html"


def claim_row(folder: str, wording: dict, runs: dict, page: str, language: str) -> str:
    judged = pages.judge(wording, runs)
    verdict = judged["verdict"]
    mark = verdict.replace(" ", "-")
    numbers = pages.shown(wording, judged["measured"], language)
    measured = "".join(
        f"<li>{escaped(what)} <b>{escaped(value)}</b></li>" for what, value in numbers
    )
    reason = {} if verdict == "holds" else wording["why" if verdict == "does not hold" else "needs"]
    because = f"<p>{escaped(reason[language])}</p>" if reason else ""
    label = f'<td data-label="{WORDS["article"][language]}">'
    cells = [
        f'<td><a href="{page}">{wording["id"]}</a> {escaped(wording["claim"][language])}</td>',
        f"{label}{escaped(wording['article'][language])}</td>",
        f"<td><ul>{measured}</ul>{because}</td>",
        f'<td><span class="verdict {mark}">{pages.VERDICTS[verdict][language]}</span></td>',
    ]
    return f'<tr data-post="{wording["post"]}" data-verdict="{mark}">{"".join(cells)}</tr>'


def all_claims(language: str, texts: dict[str, str]) -> str:
    say = words(language)
    titles = {post["number"]: post["title"] for row in pages.articles() for post in row["posts"]}
    rows = []
    numbers = {}
    verdicts = {}
    for folder in pages.folders():
        runs = pages.recorded(folder)
        for wording in pages.claims(folder):
            verdict = pages.judge(wording, runs)["verdict"]
            page = page_of_claim(folder, wording["id"], texts)
            rows.append(claim_row(folder, wording, runs, page, language))
            number = wording["post"]
            numbers[str(number)] = f"{number} {titles.get(number, '')}".strip()
            verdicts[verdict.replace(" ", "-")] = pages.VERDICTS[verdict][language]
    filters = [
        menu("post", say["post"], dict(sorted(numbers.items())), say["all"]),
        menu("verdict", say["verdict"], verdicts, say["all"]),
        f'<b class="claims-shown">{len(rows)}</b> {say["shown"]}',
    ]
    header = "".join(f"<th>{say[key]}</th>" for key in ("claim", "article", "here", "verdict"))
    lines = [f"# {say['claims']}\n", f'<p class="filters">{" ".join(filters)}</p>']
    lines += [f'<table class="all-claims"><thead><tr>{header}</tr></thead><tbody>']
    return "\n".join([*lines, *rows, "</tbody></table>\n"])


def pages_of_the_site(language: str, texts: dict[str, str]) -> dict[str, str]:
    """Name → text of the pages that no folder has; texts: name → text of those that one has."""
    return {"index.md": home(language, texts), "claims.md": all_claims(language, texts)}

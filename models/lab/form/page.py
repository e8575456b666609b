"""The page of all experiments: one HTML file in two languages that opens from disk and loads nothing."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from tinygrad_attn.atomic import atomic_path

from ...console.errors import UserError
from ...console.program import command_line
from .experiment import Words, find_experiments, load_experiment
from .figures import THEMES, draw, figure_name
from .results import FILE, Results, describe_mixed
from .tables import Table, tables
from .verdict import VERDICTS, judge, verdict

__all__ = ["LANGUAGES", "PAGE", "render", "write_page"]

LANGUAGES = Words("English", "한국어")._asdict()
"""By the language's code, its name."""

PAGE = "lab.html"


def write_page(folder: Path) -> Path:
    """Write the page of every experiment that has been measured in the folder; returns its path."""
    measured = []
    for name in find_experiments():
        if (folder / name / FILE).exists():
            with contextlib.suppress(UserError):  # it is told when the experiment is carried out
                measured.append(Results.kept(name, load_experiment(name), folder / name))
    with atomic_path(folder / PAGE) as path:
        path.write_text(render(measured), encoding="utf-8")
    return folder / PAGE


def render(measured: Iterable[Results]) -> str:
    """The page's HTML."""
    all_results = list(measured)
    bodies = [_body(all_results, language) for language in LANGUAGES]
    switches = "".join(
        f'<input type="radio" name="language" id="{language}"{" checked" if language == "en" else ""}>'
        f'<label for="{language}" lang="{language}">{name}</label>'
        for language, name in LANGUAGES.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>tinygrad_attn: {escape(_WORDS['title'].en)}</title><style>{_STYLE}</style></head>"
        f"<body>{switches}{''.join(bodies)}</body></html>\n"
    )


def _body(all_results: list[Results], language: str) -> str:
    def say(key: str) -> str:
        return escape(getattr(_WORDS[key], language))

    lines = "".join(
        f'<tr><td><a href="#{language}-{results.name}">{escape(results.name)}</a></td>'
        f"<td>{escape(getattr(results.experiment.claim, language))}</td><td>{_badge(results, language)}</td></tr>"
        for results in all_results
    )
    overview = (
        f"<table><thead><tr><th>{say('experiment')}</th><th>{say('claim')}</th><th>{say('verdict')}</th></tr></thead>"
        f"<tbody>{lines}</tbody></table>"
    )
    sections = "".join(_section(results, language) for results in all_results)
    return (
        f'<main lang="{language}" class="{language}"><h1>{say("title")}</h1><p>{say("about")}</p>'
        f'<div class="wide">{overview}</div>{sections}</main>'
    )


def _section(results: Results, language: str) -> str:
    experiment = results.experiment

    def say(key: str) -> str:
        return escape(getattr(_WORDS[key], language))

    # What came out at the full sizes, to be read beside such numbers alone.
    told = results.sizes == experiment.full and experiment.remark
    remark = f"<p>{escape(getattr(told, language))}</p>" if told else ""
    command = command_line("lab", results.name, *(["--quick"] if results.quick else []))
    note = f'<p class="mixed">{say("quick")}</p>' if results.quick else ""
    if mixed := results.mixed():
        note += f'<p class="mixed">{say("versions")} {escape(describe_mixed(mixed))}</p>'
    return (
        f'<section id="{language}-{escape(results.name)}"><h2>{escape(results.name)} {_badge(results, language)}</h2>'
        f'<p class="claim">{escape(getattr(experiment.claim, language))}</p>'
        f"<p>{escape(getattr(experiment.method, language))}</p>{note}"
        f'<h3>{say("judged")}</h3><div class="wide">{_expectations(results, language)}</div>{remark}'
        f"{_picture(results, language)}"
        f'<h3>{say("numbers")}</h3><p class="small">{say("spread")}</p>'
        f"{''.join(map(_table, tables(results, language)))}"
        f'<p class="small"><code>{escape(command)}</code><br>{escape(_about(results))}</p></section>'
    )


def _expectations(results: Results, language: str) -> str:
    def say(key: str) -> str:
        return escape(getattr(_WORDS[key], language))

    lines = "".join(
        f"<tr><td>{escape(getattr(each.expect.words, language))}</td><td>{escape(each.expect.bounds())}</td>"
        f"<td>{escape(each.found.text(each.expect.format))}</td><td>{each.held}/{len(each.found.values)}</td>"
        f'<td class="{each.verdict}">{escape(getattr(VERDICTS[each.verdict], language))}</td></tr>'
        for each in judge(results)
    )
    titles = "".join(f"<th>{say(key)}</th>" for key in ("quantity", "expected", "found", "seeds", "verdict"))
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>"


def _table(table: Table) -> str:
    titles = "".join(f"<th>{escape(header)}</th>" for header in table.headers)
    lines = "".join(
        f"<tr><th scope='row'>{escape(name)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for name, *cells in table.rows
    )
    caption = f"<caption>{escape(table.title)}</caption>" if table.title else ""
    return (
        f'<div class="wide"><table class="numbers">{caption}<thead><tr>{titles}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _picture(results: Results, language: str) -> str:
    """The figure, light or dark as the reader's system is."""
    urls = {theme: _url(_drawn(results, language, theme)) for theme in THEMES}
    text = escape(getattr(results.experiment.claim, language), quote=True)
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{urls["dark"]}">'
        f'<img src="{urls["light"]}" alt="{text}"></picture>'
    )


def _drawn(results: Results, language: str, theme: str) -> str:
    """The figure that the experiment has written, or a new one: to draw those of all takes long."""
    path = results.folder / figure_name(language, theme)
    return path.read_text(encoding="utf-8") if path.exists() else draw(results, language, theme)


def _url(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _badge(results: Results, language: str) -> str:
    found = verdict(judge(results))
    return f'<span class="badge {found}">{escape(getattr(VERDICTS[found], language))}</span>'


def _about(results: Results) -> str:
    """Seeds, sizes and versions, on one line."""
    sizes = ", ".join(f"{name} {_plain(value)}" for name, value in dataclasses.asdict(results.sizes).items())
    seeds = " ".join(map(str, sorted(results.measured)))
    known = [", ".join(f"{name} {value}" for name, value in each.items() if value) for each in results.versions()]
    return f"seeds {seeds}; {sizes}; {' | '.join(known)}"


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


_WORDS = {
    "title": Words(
        "The lab: claims about attention, put to the test", "실험실: 어텐션에 관한 주장을 실험으로 확인하기"
    ),
    "about": Words(
        "Each claim has an experiment: what should come out if it holds is written down as bounds, several seeds are "
        "measured, and the verdict is computed from their numbers. A claim can also come out otherwise.",
        "주장마다 실험이 하나 있습니다. 주장이 맞다면 어떤 값이 나와야 하는지를 먼저 범위로 정하고, 여러 시드로 "
        "측정한 값에서 판정을 계산합니다. 예상과 다르게 나올 수도 있습니다.",
    ),
    "quick": Words(
        "These are the quick sizes: they show that it runs, and not always what the full sizes show.",
        "빠른 실행의 결과입니다. 실행되는 것을 보여 줄 뿐, 전체 크기의 결과와 다를 수 있습니다.",
    ),
    "versions": Words(
        "These numbers come from different versions, which may differ in what they measure:",
        "서로 다른 버전에서 측정한 값이 섞여 있어 차이가 버전 때문일 수도 있습니다:",
    ),
    "experiment": Words("experiment", "실험"),
    "claim": Words("claim", "주장"),
    "verdict": Words("verdict", "판정"),
    "judged": Words("Expected and found", "예상한 것과 나온 것"),
    "quantity": Words("what", "무엇을"),
    "expected": Words("expected", "예상"),
    "found": Words("found", "나온 값"),
    "seeds": Words("seeds with which it holds", "성립한 시드"),
    "numbers": Words("Numbers", "측정값"),
    "spread": Words(
        "Means over the seeds; in brackets the least and the largest.",
        "시드들의 평균이며, 괄호 안은 최소와 최대입니다.",
    ),
}

_STYLE = """
:root { color-scheme: light dark; --paper: #f8f7f3; --card: #fff; --ink: #16181d; --muted: #5b616b; --line: #dedbd2;
  --good: #1d6b3a; --good-soft: #e4f2e7; --bad: #a8201a; --bad-soft: #fbe6e4; --warn: #6f5200; --warn-soft: #fff4d6;
  --accent: #2f5d8a; }
@media (prefers-color-scheme: dark) { :root { --paper: #121417; --card: #1a1d22; --ink: #ecebe6; --muted: #a3aab5;
  --line: #343941; --good: #7fd69a; --good-soft: #17301f; --bad: #ff9a92; --bad-soft: #3a1a18; --warn: #f0cf78;
  --warn-soft: #352c12; --accent: #8fbdf0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 16px clamp(12px, 3vw, 40px) 48px; max-width: 1180px; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, "Noto Sans", "Noto Sans KR", "Apple SD Gothic Neo", "Malgun Gothic",
  sans-serif; }
:lang(ko) { word-break: keep-all; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; } h3 { font-size: 0.95rem; color: var(--muted); margin-bottom: 4px; }
a { color: var(--accent); }
label { margin: 0 14px 0 4px; }
main { display: none; }
#en:checked ~ main.en, #ko:checked ~ main.ko { display: block; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 4px 20px 12px;
  margin: 20px 0; }
.claim { font-weight: 600; }
.small { color: var(--muted); font-size: 0.88rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.92rem; }
th, td { border-bottom: 1px solid var(--line); padding: 5px 14px 5px 0; text-align: left; vertical-align: top; }
th { font-weight: 600; } caption { text-align: left; color: var(--muted); }
.numbers { margin-bottom: 14px; } .numbers td, .numbers th[scope] { white-space: nowrap; }
picture { display: block; margin: 14px 0; } img { max-width: 100%; height: auto; }
.badge { display: inline-block; border: 1px solid; border-radius: 99px; padding: 1px 10px; font-size: 0.8rem;
  font-weight: 600; white-space: nowrap; }
.held { color: var(--good); } .failed { color: var(--bad); } .part, .mixed, .unfinished { color: var(--warn); }
.badge.held { background: var(--good-soft); } .badge.failed { background: var(--bad-soft); }
.badge.part, .badge.mixed, .badge.unfinished { background: var(--warn-soft); }
"""

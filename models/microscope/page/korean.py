r"""Translates the English words in a formula, ``\text{…}``, into Korean, in Korean word order."""

from __future__ import annotations

import re

__all__ = ["korean"]

# Phrases whose word order differs: a pattern and its replacement. A longer phrase comes before those that it contains.
_ORDERED = [
    (r"\\text\{ where \} (.+?), *\\text\{ else \}", r"\\text{ (} \1 \\text{인 곳), 그 외 }"),
    (r"\\text\{, 0 where \} (.+)$", r"\\text{, } \1 \\text{이면 } 0"),
    (r"\\text\{ where \} (.+) \\text\{ stays\}$", r"\\text{ (} \1 \\text{이 남는 곳)}"),
    (r"\\text\{ where \} (.+)$", r"\\text{ (} \1 \\text{인 곳)}"),
    (r"\\text\{ for \} (.+)$", r"\\text{ (} \1 \\text{일 때)}"),
    (r"\\text\{\(over all uses \} (.+?) \\text\{\)\}", r"\\text{(쓰임 } \1 \\text{마다)}"),
    (r"\\text\{, with \} (0) \\text\{ at \} (.+?)(?= \\text|$)", r"\\text{, 단 } \2 \\text{ 자리는 } \1"),
    (r"\\text\{part \} (.+?) \\text\{ of \} (.+)$", r"\2 \\text{의 } \1 \\text{번째 부분}"),
    (r"\\text\{the first part of \} (.+)$", r"\1 \\text{의 첫 부분}"),
    (r"\\text\{the last part of \} (.+)$", r"\1 \\text{의 마지막 부분}"),
    (r"\\text\{the whole number nearest to \} (.+)$", r"\1 \\text{에 가장 가까운 정수}"),
    (r"\\text\{letters not in \} (\w+)", r"\1 \\text{에 없는 문자}"),
    (
        r"\\text\{the \} (.+?) \\text\{ of the \} (.+?) \\text\{ largest \} (.+)$",
        r"\\text{가장 큰 } \3 \\; \2 \\text{개의 } \1",
    ),
    (r"\\text\{the larger of each two gets \} (.+)$", r"\1 \\text{는 둘 중 큰 쪽으로}"),
    (r"\\text\{, or \} (.+?) \\text\{ outside\}", r"\\text{, 바깥은 } \1"),
    (r"(\w+) \\text\{ depends on \} (.+?)\)", r"\1 \\text{는 } \2 \\text{의 함수})"),
    (
        r"(\w+) \\text\{ is linear in \} (\w+) \\text\{ and in \} (\w+)",
        r"\1 \\text{는 } \2 \\text{와 } \3 \\text{에 대해 선형}",
    ),
]  # fmt: skip

_WORDS = {
    ", else ": ", 그 외 ",
    ", with ": ", 단 ",
    " is nan": "는 nan",
    ", in the same order": " (순서 그대로)",
    " without axes of size 1": "에서 크기 1인 축 제거",
    " with a new axis of size 1": "에 크기 1인 축 추가",
    ", repeated along new axes and axes of size 1": "를 새 축과 크기 1인 축을 따라 반복",
    "broadcast axes": "브로드캐스트된 축",
    " with two axes swapped": "의 두 축을 맞바꿈",
    " with the same axes swapped": "의 같은 두 축을 맞바꿈",
    " under the inverse permutation": "를 역순열로",
    ", repeated": "를 반복",
    "threshold": "문턱값",
    "rows": "행",
    "copies": "복사본",
    " unless accumulating": " (누적하지 않을 때)",
    "; accumulating: ": "; 누적하면 ",
    " over what the mask leaves": " (마스크가 남긴 것에서)",
    "batch": "배치",
    "group": "그룹",
    "padding": "패딩",
    "output": "출력",
    "other letters": "다른 문자",
}


def korean(latex: str) -> str:
    """A LaTeX formula with its English words in Korean; unchanged if it has none, or only unknown ones."""
    for pattern, replacement in _ORDERED:
        latex = re.sub(pattern, replacement, latex)
    return re.sub(r"\\text\{([^{}]*)\}", lambda match: rf"\text{{{_WORDS.get(match[1], match[1])}}}", latex)

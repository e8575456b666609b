"""The tokenizers of BLEU, which say what it counts as a word."""

__all__ = ["BLEU_TOKENIZERS"]

BLEU_TOKENIZERS = ("13a", "intl", "zh", "char", "none", "ko-mecab", "ja-mecab", "spm")
"""As sacrebleu names them: "none" cuts at white space only, the last three need packages of their own."""

"""Text for the models: pairs of sentences, their ids, and batches of them."""

from .batches import Batch, Batches, collate, encode_pairs, pad
from .dates import generate_dates
from .parallel import DataError, ParallelText, read_parallel_text
from .prepare import load_text, train_tokenizers
from .vocabulary import (
    END,
    PAD,
    START,
    TOKENIZERS,
    UNKNOWN,
    Tokenizer,
    Vocabulary,
    register_tokenizer,
    tokenizer_from_dict,
    train_tokenizer,
)

__all__ = [
    "END",
    "PAD",
    "START",
    "TOKENIZERS",
    "UNKNOWN",
    "Batch",
    "Batches",
    "DataError",
    "ParallelText",
    "Tokenizer",
    "Vocabulary",
    "collate",
    "encode_pairs",
    "generate_dates",
    "load_text",
    "pad",
    "read_parallel_text",
    "register_tokenizer",
    "tokenizer_from_dict",
    "train_tokenizer",
    "train_tokenizers",
]

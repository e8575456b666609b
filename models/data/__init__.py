"""Text for the models: pairs of sentences, their ids, and batches of them."""

from .batches import Batch, Batches, collate, encode_pairs, pad
from .bpe import BPETokenizer
from .dates import generate_dates
from .parallel import DataError, ParallelText, read_parallel_text
from .prepare import load_text, train_tokenizers
from .tasks import TASKS, generate_task
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
    "TASKS",
    "TOKENIZERS",
    "UNKNOWN",
    "BPETokenizer",
    "Batch",
    "Batches",
    "DataError",
    "ParallelText",
    "Tokenizer",
    "Vocabulary",
    "collate",
    "encode_pairs",
    "generate_dates",
    "generate_task",
    "load_text",
    "pad",
    "read_parallel_text",
    "register_tokenizer",
    "tokenizer_from_dict",
    "train_tokenizer",
    "train_tokenizers",
]

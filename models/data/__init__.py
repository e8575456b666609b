"""Tasks and corpora (pairs of sentences), tokenizers, vocabularies and batches."""

from .batches import Batch, Batches, collate, encode_pairs, pad
from .bpe import BPETokenizer
from .characters import CharacterTokenizer
from .copy import Copy
from .corpus import DataError, ParallelText
from .dates import Dates, generate_dates
from .parallel import Parallel, read_parallel_text
from .prepare import train_tokenizers
from .reverse import Reverse
from .sequences import SequenceTask
from .task import TASKS, GeneratedTask, Task, register_task
from .tokenizer import (
    TOKENIZERS,
    RuleTokenizer,
    Tokenizer,
    VocabularyTokenizer,
    normalise,
    register_tokenizer,
    tokenizer_from_dict,
    train_tokenizer,
)
from .vocabulary import CONTROL_SYMBOLS, END, PAD, START, UNKNOWN, Vocabulary
from .words import WordTokenizer, split_words

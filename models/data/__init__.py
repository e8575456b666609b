"""Tasks and corpora (pairs of sentences, and texts), tokenizers, vocabularies and batches."""

from .batches import Batch, Batches, PairBatch, collate, pad
from .bpe import BPETokenizer
from .characters import CharacterTokenizer
from .copy import Copy
from .corpus import DataError, ParallelText, PlainText
from .dates import Dates, generate_dates
from .encode import encode_pairs, encode_text
from .ids import Examples
from .parallel import Parallel, read_parallel_text
from .prepare import train_tokenizers
from .reverse import Reverse
from .sequences import SequenceTask
from .stories import Stories, generate_stories
from .task import TASKS, BaseTask, GeneratedTask, Task, TextTask, register_task
from .text import Text, read_text
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
from .windows import Windows
from .words import WordTokenizer, split_words

"""A large corpus beside a small one: start-up, memory, and training's tokens a second.

    python tests/benchmarks/bench_corpus.py [PAIRS ...]

writes so many generated pairs (default: 10,000, 100,000 and a million) into a temporary folder, the same ones each
time, and starts training on each twice, in new processes: the first time cuts the text into symbols, the second finds
them in the cache, if they are many. Start-up is all that `train` does before its first step, the import of Python
modules included: reading and checking the text, the vocabulary, the ids, the plan of all epochs, the model.

Memory is the largest resident size of the process at the end of start-up and of training, and what of it is anonymous
(not pages of files that the system may drop).
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PAIRS = (10_000, 100_000, 1_000_000)
WORDS, LONGEST, BLOCK = 20_000, 24, 50_000
SYLLABLES = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
SETTINGS = {
    "data.kind": "parallel", "data.tokenizer": "bpe", "data.vocabulary_size": 8000, "data.max_length": 60,
    "model.name": "transformer", "model.d_model": 128, "model.heads": 4, "model.d_ff": 256,
    "model.encoder_layers": 2, "model.decoder_layers": 2,
    "training.batch_type": "tokens", "training.batch_size": 2048, "training.epochs": 8,
}  # fmt: skip
STEPS = 40


def write_corpus(folder: Path, pairs: int) -> None:
    """Pairs of 4 to 24 words by Zipf's law; a target is its source, word for word, backwards."""
    generator = np.random.default_rng(pairs)
    ranks = generator.integers(len(SYLLABLES), size=(WORDS, 4))
    lengths = generator.integers(1, 5, size=WORDS)
    words = ["".join(SYLLABLES[i] for i in row[:length]) for row, length in zip(ranks, lengths, strict=True)]
    shares = np.cumsum(1.0 / np.arange(1, WORDS + 1))
    for split, size in (("train", pairs), ("valid", 200), ("test", 200)):
        with (folder / f"{split}.src").open("w") as source, (folder / f"{split}.tgt").open("w") as target:
            for first in range(0, size, BLOCK):
                counts = generator.integers(4, LONGEST + 1, size=min(BLOCK, size - first))
                drawn = np.searchsorted(shares, generator.random(counts.sum()) * shares[-1])
                for row in np.split(drawn, np.cumsum(counts)[:-1]):
                    chosen = [words[i] for i in row]
                    source.write(" ".join(chosen) + ".\n")
                    target.write(" ".join(reversed(chosen)) + ".\n")


def train(folder: str) -> None:
    """Start training, take some steps, and print the figures; in a process of its own."""
    from tinygrad_attn_models.console.progress import PlainProgress
    from tinygrad_attn_models.data import train_tokenizers
    from tinygrad_attn_models.runs.config import load_config
    from tinygrad_attn_models.runs.folder import Run
    from tinygrad_attn_models.training.trainer import Trainer

    files = {"data.directory": folder, "data.source": "src", "data.target": "tgt"}
    config = load_config(None, {**SETTINGS, **files})
    text = config.data.load()
    run = Run(Path(folder) / "run", config, *train_tokenizers(text, config.data))
    trainer = Trainer(run, text, PlainProgress())
    print(time.time() - float(os.environ["BEGAN"]), time.process_time(), *memory())
    trainer.model.train()
    tokens, seconds, batching = 0, 0.0, 0.0
    groups = trainer.groups(0)
    for step in range(STEPS):
        began = time.process_time()
        batches = next(groups)
        drawn = time.process_time()
        trainer.step(*batches)
        if step >= STEPS // 2:  # kernels are compiled, and programs made
            tokens += sum(batch.target_tokens for batch in batches)
            seconds, batching = seconds + time.process_time() - began, batching + drawn - began
    print(tokens / seconds, batching / seconds, *memory())


def memory() -> tuple[float, float]:
    """MB: the largest resident size so far, and the anonymous memory now; 0 where the system does not tell."""
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    anonymous = next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), 0.0)
    return most, anonymous


def main() -> None:
    """Measure all sizes, and print a table."""
    print("Start-up, first and second time: seconds by the clock (of processors); peak MB (anonymous).")
    print("    pairs  text MB         first                second            tokens/s  batching")
    for pairs in map(int, sys.argv[1:] or PAIRS):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write_corpus(folder, pairs)
            size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
            cache = {"TINYGRAD_ATTN_CACHE_DIR": str(folder / "cache")}
            found = []
            for _ in range(2):
                environment = {**os.environ, **cache, "BEGAN": str(time.time())}
                command = [sys.executable, __file__, "--train", scratch]
                output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
                found.append([[float(number) for number in line.split()] for line in output.splitlines()[-2:]])
            starts = "  ".join(f"{a:5.1f} ({b:5.1f}) {most:5.0f} ({own:4.0f})" for (a, b, most, own), _ in found)
            speed, batching = found[-1][1][:2]
            print(f"{pairs:9,}  {size:7.1f}  {starts}  {speed:9,.0f}  {100 * batching:.1f} %", flush=True)


if __name__ == "__main__":
    train(sys.argv[2]) if sys.argv[1:2] == ["--train"] else main()

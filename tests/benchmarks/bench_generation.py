"""Generation beside PyTorch's, with the same weights: symbols per second of a GPT that continues a text.

``python tests/benchmarks/bench_generation.py [SIZE ...]``, the sizes being those of `models.speed.workloads`. Weights
are drawn by chance, so that nothing need be trained. Contenders:

- "ours": `tinygrad_attn_models.decoding.generate.generate_ids`, with all that it does for a user;
- "ours-sampled": the same, drawing with temperature 0.8, of the 40 likeliest and of probability 0.95;
- "torch-cached": a loop over PyTorch's functions that keeps keys and values in place, and reads a prompt at once;
- "torch-plain": a loop that reads the whole window again for each symbol, as nanoGPT's does.

All but the second write the likeliest symbol, and the script fails unless they write the same. When the context is
full, all go on from the later half of it. Contenders run in turn, each in a process of its own; the best round counts.
A ratio above 1 means that we are faster.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from harness import run_in_process
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.speed.workloads import WORKLOADS

import tinygrad_attn as ta

Generate = Callable[[list[int], int], list[int]]
"""A prompt and how many symbols to write, to these."""


def drawn(size: str) -> GPT:
    """The model of a workload, with weights that are far from uniform in what they expect."""
    ta.manual_seed(0)
    model = WORKLOADS[size].make()
    assert isinstance(model, GPT)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.array[...] *= 4
    return model


# --- Ours -------------------------------------------------------------------------------------------------------------


def prepare_ours(size: str, **sampling: Any) -> Generate:
    from tinygrad_attn_models.decoding.generate import Sampling, generate_ids

    model = drawn(size)

    def generate(prompt: list[int], length: int) -> list[int]:
        return list(generate_ids(model, prompt, Sampling(length=length, seed=0, **sampling)))

    return generate


# --- PyTorch's --------------------------------------------------------------------------------------------------------


class TorchGPT:
    """The GPT in PyTorch's functions: pre-norm, GELU, learned positions, no biases, tied output."""

    def __init__(self, size: str) -> None:
        import torch

        model = drawn(size)
        settings = model.settings
        self.weights = {name: torch.from_numpy(tensor.array.copy()) for name, tensor in model.state_dict().items()}
        self.heads, self.layers, self.context = settings.heads, settings.layers, settings.context
        width = settings.d_model // settings.heads
        self.keys, self.values = torch.empty((2, self.layers, self.heads, self.context, width))

    def logits(self, ids: list[int], start: int) -> Any:
        """The logits after some symbols, the first of which is at position ``start``; those before are kept."""
        import torch
        from torch.nn import functional as F

        w, end = self.weights, start + len(ids)
        x = w["embedding.weight"][torch.tensor(ids)] + w["positions.weight"][start:end]
        for i in range(self.layers):
            at = f"blocks.{i}."
            h = F.layer_norm(x, x.shape[-1:], w[at + "norm1.weight"])
            q, k, v = (
                F.linear(h, w[at + "self_attn.in_proj_weight"]).view(len(ids), 3, self.heads, -1).permute(1, 2, 0, 3)
            )
            self.keys[i, :, start:end], self.values[i, :, start:end] = k, v
            attended = F.scaled_dot_product_attention(
                q[None], self.keys[None, i, :, :end], self.values[None, i, :, :end], is_causal=len(ids) > 1
            )[0]
            x = x + F.linear(attended.transpose(0, 1).reshape(len(ids), -1), w[at + "self_attn.out_proj.weight"])
            h = F.layer_norm(x, x.shape[-1:], w[at + "norm2.weight"])
            inner = F.gelu(F.linear(h, w[at + "feed_forward.linear1.weight"]))
            x = x + F.linear(inner, w[at + "feed_forward.linear2.weight"])
        return F.linear(F.layer_norm(x[-1], x.shape[-1:], w["norm.weight"]), w["embedding.weight"])


def prepare_torch(size: str, *, cached: bool) -> Generate:
    import torch

    model = TorchGPT(size)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def generate(prompt: list[int], length: int) -> list[int]:
        text, first, done = list(prompt), max(0, len(prompt) - model.context), 0
        for _ in range(length):
            if len(text) - first > model.context:
                first, done = len(text) - model.context // 2, 0
            start = max(first, done) if cached and done else first
            logits = model.logits(text[start:], start - first)
            done = len(text)
            text.append(int(logits.argmax()))
        return text[len(prompt) :]

    return generate


CONTENDERS: dict[str, Callable[[str], Generate]] = {
    "ours": lambda size: prepare_ours(size, temperature=0.0),
    "ours-sampled": lambda size: prepare_ours(size, temperature=0.8, top_k=40, top_p=0.95),
    "torch-cached": lambda size: prepare_torch(size, cached=True),
    "torch-plain": lambda size: prepare_torch(size, cached=False),
}


# --- Measuring --------------------------------------------------------------------------------------------------------


def measure(contender: str, size: str, options: argparse.Namespace) -> dict[str, Any]:
    """The best of a round's seconds, by the clock and of the processor, and what was written."""
    if contender.startswith("torch"):
        import torch

        torch.set_num_threads(options.threads[0])
    generate = CONTENDERS[contender](size)
    prompt = np.random.default_rng(0).integers(4, 60, options.prompt).tolist()
    generate(prompt, 2 * options.length)
    times = []
    for _ in range(options.repeats):
        began, processor = time.perf_counter(), time.process_time()
        written = generate(prompt, options.length)
        times.append((time.perf_counter() - began, time.process_time() - processor))
    return {"seconds": min(t for t, _ in times), "processor": min(t for _, t in times), "written": written}


def compare_sides(size: str, threads: int, options: argparse.Namespace) -> Iterator[str]:
    """The lines of a table."""
    best: dict[str, dict[str, float]] = {name: {} for name in options.contenders}
    written: dict[str, list[int]] = {}
    for _ in range(options.rounds):
        for name in options.contenders:
            found = run_in_process(
                __file__,
                [size, "--measure", name, "--threads", str(threads), "--prompt", str(options.prompt),
                 "--length", str(options.length), "--repeats", str(options.repeats)],
                threads,
            )  # fmt: skip
            written[name] = found["written"]
            best[name] = {key: min(best[name].get(key, np.inf), found[key]) for key in ("seconds", "processor")}
    same = {tuple(ids) for name, ids in written.items() if name != "ours-sampled"}
    if len(same) > 1:
        raise SystemExit(f"{size}: the contenders do not write the same symbols")
    yield f"\n{size}, {threads} thread{'s' * (threads > 1)}, {options.prompt} symbols read, {options.length} written"
    first = options.contenders[0]
    ours = best[first]
    for name, times in best.items():
        rate, each = options.length / times["seconds"], times["processor"] / options.length
        ratio, ratio_of_processor = (times[key] / ours[key] for key in ("seconds", "processor"))
        yield (
            f"{name:<14}{rate:9,.0f} symbols/s, {each * 1e6:8.1f} us of processor time for each; "
            f"{first} is {ratio:.2f} times as fast, {ratio_of_processor:.2f} by processor time"
        )


def main() -> None:
    sizes = [name for name, workload in WORKLOADS.items() if isinstance(workload.make(), GPT) and "dropout" not in name]
    parser = argparse.ArgumentParser(description="Time generation beside PyTorch's.")
    parser.add_argument("sizes", nargs="*", choices=sizes, default=sizes, metavar="SIZE", help=", ".join(sizes))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--prompt", type=int, default=16, help="symbols that are given")
    parser.add_argument("--length", type=int, default=500, help="symbols to write")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5, help="times that a contender writes in a round")
    parser.add_argument("--measure", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.sizes[0], options)))
        return
    if any(name.startswith("torch") for name in options.contenders):
        try:
            import torch  # noqa: F401
        except ImportError:
            raise SystemExit("PyTorch is not installed: pip install torch, or give --contenders ours") from None
    for size in options.sizes:
        for threads in options.threads:
            for line in compare_sides(size, threads, options):
                print(line, flush=True)


if __name__ == "__main__":
    main()

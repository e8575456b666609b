"""The peer of bench_ranks.py: the same models and batches in PyTorch, by DistributedDataParallel over gloo.

    RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29500 python tests/benchmarks/torch_ranks.py WORKLOAD SECONDS

is one of the processes, which have one thread each; the first prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import sys

import torch
import torch.distributed as dist
from steps import timed_steps
from tinygrad_attn_models.speed.memory import peak_memory
from tinygrad_attn_models.speed.workloads import find_workload
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch_training import TorchTransformer, step_of


class TorchBahdanau(nn.Module):
    """`tinygrad_attn_models.speed.workloads.BahdanauWorkload`, with parameters of the same names."""

    def __init__(self, vocabulary: int, embedding_size: int, hidden_size: int) -> None:
        super().__init__()
        self.se, self.te = (nn.Embedding(vocabulary, embedding_size) for _ in range(2))
        self.enc = nn.GRU(embedding_size, hidden_size, batch_first=True)
        self.cell = nn.GRUCell(embedding_size + hidden_size, hidden_size)
        self.wq = nn.Linear(hidden_size, hidden_size, bias=False)
        self.wk, self.v = nn.Linear(hidden_size, hidden_size), nn.Linear(hidden_size, 1, bias=False)
        self.out = nn.Linear(hidden_size, vocabulary)

    def forward(self, source: Tensor, target_in: Tensor, source_mask: Tensor) -> Tensor:
        """Ids (B, S) and (B, T), and the mask (B, S), to logits (B, T, V)."""
        encoded, last = self.enc(self.se(source))
        keys, hidden, embedded, states = self.wk(encoded), last[0], self.te(target_in), []
        for t in range(target_in.shape[1]):
            scores = self.v(torch.tanh(self.wq(hidden)[:, None] + keys))[..., 0].masked_fill(~source_mask, -1e9)
            context = torch.bmm(torch.softmax(scores, -1)[:, None], encoded)[:, 0]
            hidden = self.cell(torch.cat([embedded[:, t], context], -1), hidden)
            states.append(hidden)
        return self.out(torch.stack(states, 1))


MODELS = {
    "bahdanau-m30k": lambda: TorchBahdanau(8000, 256, 512),
    "transformer-m30k": lambda: TorchTransformer(8000, 256, 3, 8, 512),
}


def main() -> None:
    name, seconds = sys.argv[1], float(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = DistributedDataParallel(MODELS[name]())
    batch = find_workload(name).batch()
    step = step_of(model, [torch.from_numpy(each.array[rank::size].copy()) for each in batch])

    def agree(going_on: bool) -> bool:
        decision = torch.tensor(float(going_on))
        dist.broadcast(decision, 0)
        return bool(decision)

    found = timed_steps(step, seconds, agree)
    memory = torch.tensor(peak_memory())
    dist.all_reduce(memory, dist.ReduceOp.MAX)
    if rank == 0:
        print(json.dumps({**found, "memory": float(memory)}))
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    main()

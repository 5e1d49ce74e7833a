"""Memories of two processes."""

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from hsakd.models.adapters import Memory


def _work(rank, folder):
    dist.init_process_group('gloo', f'file://{folder}/store', world_size=2, rank=rank)
    torch.manual_seed(rank)
    memory = Memory(6, 4)
    first = memory.rows.clone()
    memory.update(torch.tensor([rank, 2 + rank]), torch.randn(2, 4))
    torch.save((first, memory.rows), f'{folder}/{rank}.pth')
    dist.destroy_process_group()


def test_all_processes_hold_the_same(tmp_path):
    mp.spawn(_work, (str(tmp_path),), nprocs=2)
    (first, rows), others = (torch.load(tmp_path / f'{rank}.pth') for rank in (0, 1))
    assert torch.equal(first, others[0]) and torch.equal(rows, others[1])
    assert ((rows != first).any(1) == torch.tensor([1, 1, 1, 1, 0, 0]).bool()).all()

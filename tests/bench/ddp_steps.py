#!/usr/bin/env python3
"""ddp_steps.py - some steps of PyTorch DDP, as a job to launch: env:// rendezvous, one process per device

Rank 0 prints "FIRST <unix time> started <t> imported <t> group <t>" when the
first all-reduce has finished (the process began, torch was imported, the
process group was there), and every rank "RANK r pid p device d" and at last "DONE r loss l". All ranks must
end with the same parameters. Without GPUs it runs on the CPU through gloo;
with fewer GPUs than ranks they share one, also through gloo (NCCL refuses two
ranks on one device).

  --steps N   (20)      --sleep S   between steps      --backend auto|nccl|gloo
"""
import argparse
import os
import sys
import time

import torch
import torch.distributed as dist

imported = time.time()
with open("/proc/self/stat", encoding="latin1") as f:
    ticks = int(f.read().rsplit(")", 1)[1].split()[19])
started = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")

ap = argparse.ArgumentParser()
ap.add_argument("--steps", type=int, default=20)
ap.add_argument("--sleep", type=float, default=0.0)
ap.add_argument("--backend", default="auto")
args = ap.parse_args()

rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
local, local_world = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
gpus = torch.cuda.device_count()
backend = args.backend
if backend == "auto":
    # one GPU a rank: counted on this node, since CUDA_VISIBLE_DEVICES may show each node its own
    backend = "nccl" if gpus >= local_world and os.environ.get("SHARED_GPU") != "1" else "gloo"
device = torch.device(f"cuda:{local % gpus}" if gpus else "cpu")
if gpus:
    torch.cuda.set_device(device)
print(f"RANK {rank} pid {os.getpid()} device {device} backend {backend}", flush=True)

dist.init_process_group(backend)
group = time.time()
one = torch.ones(1, device=device)
dist.all_reduce(one)
if gpus:
    torch.cuda.synchronize()
if rank == 0:
    print(f"FIRST {time.time():.3f} started {started:.3f} imported {imported:.3f} group {group:.3f}", flush=True)
if one.item() != world:
    sys.exit(f"rank {rank}: the first all-reduce gave {one.item()}, not {world}")

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 1)).to(device)
ddp = torch.nn.parallel.DistributedDataParallel(model, device_ids=[device.index] if gpus else None)
opt = torch.optim.SGD(ddp.parameters(), lr=0.01)
gen = torch.Generator().manual_seed(1000 + rank)
for step in range(args.steps):
    x = torch.randn(64, 256, generator=gen).to(device)
    loss = (ddp(x) - x.sum(1, keepdim=True) / 16).square().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if args.sleep:
        time.sleep(args.sleep)

mine = torch.cat([p.detach().flatten() for p in model.parameters()])
low, high = mine.clone(), mine.clone()
dist.all_reduce(low, op=dist.ReduceOp.MIN)
dist.all_reduce(high, op=dist.ReduceOp.MAX)
if not torch.equal(low, high):
    sys.exit(f"rank {rank}: the ranks' parameters differ")
print(f"DONE {rank} loss {loss.item():.4f}", flush=True)
dist.destroy_process_group()

"""checkpoint_train.py DIR STEPS EVERY PAUSE - a small training that can be taken up again

Each step's data are made from the step's number and the rank, so where it was
taken up again makes no difference to what is learnt. Rank 0 keeps the newest
checkpoint (weights, momentum, step) under a name that is whole or not there,
and a line for each step that it has done: "ATTEMPT STEP LOSS".
"""
import hashlib
import os
import sys
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

where, steps, every, pause = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
rank, attempt = int(os.environ["RANK"]), os.environ["NODEAGENT_ATTEMPT"]
path = os.path.join(where, "checkpoint.pt")
torch.set_num_threads(1)
torch.manual_seed(7)
dist.init_process_group("gloo")
net = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1))
model = DistributedDataParallel(net)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
step = 0
if os.path.exists(path):
    saved = torch.load(path)
    net.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    step = saved["step"]
at = torch.tensor([step])
dist.broadcast(at, 0)
assert int(at) == step, "all ranks begin with the same checkpoint"
print(f"attempt {attempt}: rank {rank} of {dist.get_world_size()} begins at step {step}", flush=True)


def batch(n):
    g = torch.Generator().manual_seed(1000 * n + rank)
    x = torch.randn(16, 32, generator=g)
    return x, x.sum(1, keepdim=True).sin()


def digest():
    h = hashlib.sha256()
    for t in net.state_dict().values():
        h.update(bytes(t.contiguous().view(torch.uint8).flatten().tolist()))
    return h.hexdigest()


log = open(os.path.join(where, "steps"), "a", encoding="ascii") if rank == 0 else None
while step < steps:
    x, y = batch(step)
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
    if log:
        log.write(f"{attempt} {step} {loss.item():.17g}\n")
        log.flush()
    step += 1
    if rank == 0 and step % every == 0:
        torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, path + ".new")
        os.replace(path + ".new", path)
    time.sleep(pause)
dist.barrier()
if rank == 0:
    print(f"weights {digest()} loss {loss.item():.17g}", flush=True)
dist.destroy_process_group()

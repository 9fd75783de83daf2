"""class_ib.py - classes of faults of InfiniBand ports"""
from bed import Expect, fault


def port(id, title, expect, node="a", device="mlx5_2", more=(), **files):
    """A class that changes files of one port and puts them back."""
    good = {"state": "4: ACTIVE", "phys_state": "5: LinkUp", "rate": "400 Gb/sec (4X NDR)"}

    def inject(bed):
        tree = bed.sys(node)
        before = {}
        for file in files:
            with open(tree.path(f"class/infiniband/{device}/ports/1/{file}"), encoding="ascii") as f:
                before[file] = f.read().strip()
        tree.set(device, **{**files})
        yield
        tree.set(device, **{**before, **{k: v for k, v in good.items() if k in files}})
    inject.__qualname__ = id
    return fault(id, title, bed="nodes", expect=expect, **dict(more))(inject)


port("ib-initializing", "a port waits for a subnet manager, the others are Active",
     Expect("ib.state", "a", "mlx5_2", "bad", ("Initializing", "subnet manager", "this port alone")), state="2: INIT")

"""Count the kernels, casts, bytes and memory of one training step on a GPU, without a GPU.

    python benchmarks/step_count.py [--batch 96] [--algorithms CARFT CLIP_ERM] [--against FOLDER]

It counts and does not time. The step runs on fake tensors, which have a shape, a type and a device,
but no numbers. The model is a ViT-B/16 with bf16 autocast, and the second step is counted.

- kernels: operators that read or write data on the device, as torch dispatches them. A view is
  none, and an operator that torch runs as several launches is one.
- casts: those of them that only change a type.
- syncs: reads of a value on the device by the host.
- GB: bytes that operators read and write, without matrix products, convolutions and attention.
- TFLOP: of the matrix products, convolutions and attention.
- peak: largest sum of tensors on the device, in GiB, without what the allocator adds.
- checkpoint: the peak with clip_checkpoint.

--against runs the same in another build of this package, and prints the ratios to it. That of
checkpoint is to the other's peak.
"""

import argparse
import contextlib
import heapq
import json
import math
import os
import subprocess
import sys
import tempfile
import weakref
from collections import Counter
from pathlib import Path

os.environ["DOMAINBED_CARFT_HOST"] = "embedded"

import torch
import torch.optim.optimizer as optimizer
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from domainbed_carft.register import register

NO_KERNEL = (  # neither views nor kernels
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view"),
    *("_local_scalar_dense", "lift_fresh", "_reshape_alias", "is_same_size", "set_"),
)
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward")
TOKEN = 9  # position of the last token of a text
CASTS = ("_to_copy", "copy_", "_foreach_copy_")


class Count(TorchDispatchMode):
    """Counts what is dispatched while it is active, see the top of this file.

    Args:
        tensors: tensors on the device before.
        token: what the host reads where it asks for a whole number, e.g. the position of a token.
    """

    def __init__(self, tensors, token):
        super().__init__()
        self.token = token
        self.kernels, self.moved = Counter(), Counter()  # by operator
        self.flops = self.casts = self.syncs = self.now = self.peak = 0
        self.known = set()
        self._see(tensors)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        if name == "device":
            return func(*args, **kwargs)
        if name == "_local_scalar_dense":
            self.syncs += args[0].device.type == "cuda"
            return float(self.token) if args[0].is_floating_point() else self.token
        result = func(*args, **kwargs)
        inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        outputs = [x for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        self._see(outputs)
        writes = [
            r.alias_info is not None and r.alias_info.is_write for r in func._schema.arguments
        ]
        is_view = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
        on_device = any(x.device.type == "cuda" for x in (*inputs, *outputs))
        if name in NO_KERNEL or is_view or not on_device:
            return result
        self.kernels[name] += 1
        if func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **kwargs, out_val=result)
        written = outputs
        if any(writes) and not outputs:  # of lists, which are written in place
            places = (a for a, w in zip(args, writes) if w)
            written = [x for x in tree_leaves(list(places)) if isinstance(x, torch.Tensor)]
        if name in CASTS:
            self.casts += len({x.dtype for x in (*inputs, *written)}) > 1
            overwritten = {id(x) for x in written}
            inputs = [x for x in inputs if id(x) not in overwritten]
        if name not in PRODUCTS and "attention" not in name:
            self.moved[name] += sum(_size(x) for x in (*inputs, *written))
        return result

    def _see(self, tensors):
        for tensor in tensors:
            if tensor.device.type != "cuda":
                continue
            storage = tensor.untyped_storage()
            if storage._cdata in self.known:
                continue
            size = storage.nbytes()
            self.known.add(storage._cdata)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, storage._cdata, size)

    def _forget(self, key, size):
        self.known.discard(key)
        self.now -= size


def _size(tensor):
    """Return the bytes of the different elements of a tensor."""
    sizes = (n for n, step in zip(tensor.shape, tensor.stride()) if step)
    return math.prod(sizes) * tensor.element_size()


@contextlib.contextmanager
def fake_gpu():
    """Let torch believe that there is a GPU, on which fake tensors are as good as others."""
    changes = [
        (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
        (torch.cuda, "is_bf16_supported", lambda *_: True),
        (torch.cuda, "get_device_capability", lambda *_: (9, 0)),
        (torch.nn.functional, "scaled_dot_product_attention", _attention),
        (FakeTensor, "tolist", _tolist),
        (torch.Tensor, "backward", _backward),
        (torch._C, "_current_graph_task_id", lambda: 1),
    ]
    for module in (_foreach_utils, optimizer):
        if hasattr(module, "_foreach_supported_types"):
            types = [*module._foreach_supported_types, FakeTensor]
            changes.append((module, "_foreach_supported_types", types))
    before = [(place, name, getattr(place, name)) for place, name, _ in changes]
    for place, name, value in changes:
        setattr(place, name, value)
    try:
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)


def _tolist(tensor):
    """Return zeros, with one sync."""
    tensor.flatten()[0].item()
    zeros = [0.0] * tensor.numel()
    return zeros if tensor.dim() == 1 else [zeros[: tensor.shape[1]]] * tensor.shape[0]


def _attention(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, **_):
    """Call the kernel that torch takes on a GPU. It asks the GPU, which is not there."""
    if attn_mask is None and q.dtype in (torch.bfloat16, torch.float16):
        fused = torch.ops.aten._scaled_dot_product_flash_attention
        return fused(q, k, v, dropout_p, is_causal)[0]
    fused = torch.ops.aten._scaled_dot_product_efficient_attention
    if attn_mask is not None:
        attn_mask = attn_mask.expand(*q.shape[:3], k.shape[2])
    return fused(q, k, v, attn_mask, torch.is_grad_enabled(), dropout_p, is_causal)[0]


@torch.no_grad()
def _backward(loss, *_, **__):
    """Do what loss.backward() does, in the same order. Torch's own needs threads of the GPU."""
    nodes, waiting, stack = {}, Counter(), [loss.grad_fn]
    while stack:
        node = stack.pop()
        nodes[id(node)] = node
        for after, _ in node.next_functions:
            if after is not None:
                stack += [after] if not waiting[id(after)] else []
                waiting[id(after)] += 1
    ready, gradients = [(0, id(loss.grad_fn))], {id(loss.grad_fn): {0: torch.ones_like(loss)}}
    loss.detach_()  # so that the graph is freed on the way
    del node, after
    while ready:
        key = heapq.heappop(ready)[1]
        node, given = nodes.pop(key), gradients.pop(key, {})
        results = _call(node, [given.pop(i, None) for i in range(len(node._input_metadata))])
        for (after, i), gradient in zip(node.next_functions, results):
            if after is None:
                continue
            there = gradients.setdefault(id(after), {})
            if gradient is not None:
                gradient = _fit(gradient, after._input_metadata[i])
                there[i] = gradient if i not in there else there[i] + gradient
            waiting[id(after)] -= 1
            if not waiting[id(after)]:
                first = type(after).__name__ == "AccumulateGrad"
                number = math.inf if first else after._sequence_nr()
                heapq.heappush(ready, (-number, id(after)))
        node = given = results = after = gradient = there = None


def _fit(gradient, expected):
    """Return a gradient in the shape and type of what was computed."""
    if gradient.shape != tuple(expected.shape):
        gradient = gradient.sum_to_size(expected.shape)
    return gradient.to(expected.dtype)


def _call(node, gradients):
    if type(node).__name__ != "AccumulateGrad":
        if not isinstance(node, torch.autograd.function.BackwardCFunction):
            results = node(*gradients)
            return results if isinstance(results, tuple) else (results,)
        results = node.apply(*gradients)  # also of arguments that are no tensors
        results = results if isinstance(results, tuple) else (results,)
        wanted = iter([x for x, needed in zip(results, node.needs_input_grad) if needed])
        return tuple(next(wanted) if after else None for after, _ in node.next_functions)
    weight, gradient = node.variable, gradients[0]
    if gradient is not None and weight.grad is None:
        weight.grad = gradient if gradient.stride() == weight.stride() else gradient.clone()
    elif gradient is not None:
        weight.grad += gradient
    return ()


def make_fake(algorithm, mode):
    """Turn the weights and buffers of an algorithm into fake tensors on a GPU, in place."""
    fakes = {}

    def fake(tensor):
        if id(tensor) not in fakes:
            value = mode.from_tensor(tensor.detach(), static_shapes=True).to("cuda")
            if isinstance(tensor, torch.nn.Parameter):
                value = torch.nn.Parameter(value, requires_grad=tensor.requires_grad)
            fakes[id(tensor)] = value
        return fakes[id(tensor)]

    modules = list(algorithm.modules())
    for module in modules:
        modules += [m for held in getattr(module, "_held", ()) for m in held.modules()]
    with mode:
        for module in modules:
            for kind in (module._parameters, module._buffers):
                kind.update({k: fake(v) for k, v in kind.items() if v is not None})
            for name, value in list(vars(module).items()):  # such as clip's attention mask
                if isinstance(value, torch.Tensor):
                    setattr(module, name, fake(value))
        for group in algorithm.optimizer.param_groups:
            group["params"] = [fake(p) for p in group["params"]]
        if algorithm.average is not None:
            algorithm.average.parameters = [fake(p) for p in algorithm.average.parameters]


def count(name, knobs, batch):
    """Return {what: number} of the second training step of an algorithm."""
    from domainbed import algorithms, hparams_registry

    hparams = hparams_registry.default_hparams(name, "PACS")
    known = {k: v for k, v in knobs.items() if k in hparams}
    if missing := sorted(knobs.keys() - known.keys()):
        print(f"NOTE: this build has no {', '.join(missing)}", file=sys.stderr)
    hparams.update(known)
    torch.manual_seed(0)
    algorithm = algorithms.get_algorithm_class(name)((3, 224, 224), 7, 3, hparams)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with fake_gpu():
        make_fake(algorithm, mode)
        with mode:
            images = [torch.empty(batch // 3, 3, 224, 224, device="cuda") for _ in range(3)]
            labels = torch.zeros(batch // 3, dtype=torch.int64, device="cuda")
            minibatches = [(x, labels) for x in images]
            with Count([], TOKEN):
                algorithm.update(minibatches)  # makes the optimiser's state
            algorithm.optimizer.zero_grad(set_to_none=True)
            static = [*algorithm.parameters(), *algorithm.buffers(), *images, labels]
            static += [
                p
                for f in algorithm.modules()
                for h in getattr(f, "_held", ())
                for p in (*h.parameters(), *h.buffers())
            ]
            static += [
                x
                for state in algorithm.optimizer.state.values()
                for x in tree_leaves(state)
                if isinstance(x, torch.Tensor)
            ]
            with Count(static, TOKEN) as counter:
                algorithm.update(minibatches)
    return {
        "kernels": counter.kernels.total(),
        "casts": counter.casts,
        "syncs": counter.syncs,
        "GB": counter.moved.total() / 1e9,
        "TFLOP": counter.flops / 1e12,
        "peak": counter.peak / 2**30,
        "operators": {
            name: [n, counter.moved[name] / 1e9] for name, n in counter.kernels.most_common()
        },
    }


def save_files(folder):
    """Save a ViT-B/16 with random weights and its prompts. Return the knobs that select them."""
    import clip.model

    from domainbed_carft.models.openai import VOCABULARY

    torch.manual_seed(0)
    model = clip.model.CLIP(512, 224, 12, 768, 16, 77, VOCABULARY, 512, 8, 12)
    weights = {k: v.half() for k, v in model.state_dict().items()}
    numbers = {"input_resolution": 224, "context_length": 77, "vocab_size": VOCABULARY}
    torch.save(weights | {k: torch.tensor(v) for k, v in numbers.items()}, folder / "clip.pt")
    (folder / "classes.txt").write_text("\n".join("abcdefg"))
    (folder / "contexts.txt").write_text("\n".join(f"{i} of a {{}}" for i in range(80)))
    return {
        "clip_backbone": str(folder / "clip.pt"),
        "clip_class_names": str(folder / "classes.txt"),
        "clip_contexts": str(folder / "contexts.txt"),
        "clip_precision": "bf16",
        "clip_steps": 100,
        "lpft_share": 0.0,
    }


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--batch", type=int, default=96, help="images per step (default: 96)")
    parser.add_argument("--algorithms", nargs="+", default=["CARFT", "CLIP_ERM"])
    parser.add_argument("--hparams", type=json.loads, default={}, help="knobs, as JSON")
    parser.add_argument("--against", help="folder of another build, to which ratios are printed")
    parser.add_argument("--operators", action="store_true", help="print each operator's share")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--files", help=argparse.SUPPRESS)  # of the process with the other build
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DOMAINBED_CARFT_CACHE"] = args.files or folder
        given = Path(args.files or folder)
        register()
        if args.files:
            files = json.loads((given / "knobs.json").read_text())
        else:
            files = save_files(given)
            (given / "knobs.json").write_text(json.dumps(files))
        for name in args.algorithms:
            here = count(name, {**files, **args.hparams}, args.batch)
            if args.json:
                print(json.dumps({name: here}), flush=True)
                continue
            knobs = {**files, **args.hparams, "clip_checkpoint": True}
            here["checkpoint"] = count(name, knobs, args.batch)["peak"]
            there = other(args, name, given) if args.against else None
            if there:
                there["checkpoint"] = there["peak"]
            show(name, here, there, args.operators)


def other(args, name, files):
    """Return the counts of an algorithm in the build of --against."""
    command = [sys.executable, os.path.abspath(__file__), "--json", "--algorithms", name]
    command += ["--batch", str(args.batch), "--files", str(files)]
    environment = {**os.environ, "PYTHONPATH": os.path.abspath(args.against)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)[name]


def show(name, here, there, operators):
    """Print the counts of an algorithm, and the ratios to those of another build."""
    for what in ("kernels", "casts", "syncs", "GB", "TFLOP", "peak", "checkpoint"):
        line = f"{name:14s} {what:10s} {here[what]:9.{0 if isinstance(here[what], int) else 2}f}"
        if there:
            ratio = here[what] / there[what] if there[what] else math.nan
            line += f" {there[what]:9.{0 if isinstance(there[what], int) else 2}f} {ratio:7.3f}"
        print(line, flush=True)
    if operators:
        for operator, (n, moved) in here["operators"].items():
            print(f"{'':14s} {operator:50s} {n:5d} {moved:8.2f} GB")


if __name__ == "__main__":
    main()

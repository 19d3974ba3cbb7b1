#!/usr/bin/python3
"""Makes optimizer.golden: a hundred steps in double of PyTorch's optimizers, schedules, clipping and averages.

    /usr/bin/python3 tests/golden/make_golden_optim.py

Every run minimises Σ curvature · x² / 2 − target · x over the elements x of two parameters, w and u, whose gradient is
curvature · x − target; with "swing" the target's sign changes at each step. A case has

    case:w, case:u            the parameters after every tenth step
    case:lr, case:momentum    with a schedule: those of each group, at each step
    case:norm                 with clipping: the gradients' norm before it, at each step
    case:average.w, ….u       with an average: its parameters after every tenth step
"""
import math
import warnings

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Adam, AdamW, RMSprop
from torch.optim.lr_scheduler import (CosineAnnealingLR, LinearLR, MultiStepLR, OneCycleLR, ReduceLROnPlateau,
                                      SequentialLR, StepLR)
from torch.optim.swa_utils import AveragedModel

from make_golden import File, generator, normal, uniform

warnings.filterwarnings("ignore", category=UserWarning)  # a schedule that others follow steps by number
generator.manual_seed(2026)
file = File("optimizer")
shapes = {"w": (2, 3), "u": (4,)}
start = {name: normal(*shape) for name, shape in shapes.items()}
curvature = {name: uniform(*shape) * 3 for name, shape in shapes.items()}
target = {name: normal(*shape) for name, shape in shapes.items()}
for kind, tensors in [("start", start), ("curvature", curvature), ("target", target)]:
    for name, tensor in tensors.items():
        file.add(f"problem:{kind}.{name}", tensor)

metrics = normal(100) / 4 + 3 * torch.exp(-torch.arange(100) / 12.0)
metrics[[7, 40, 41]] = math.nan
file.add("problem:metrics", metrics)


class Problem(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.u = (nn.Parameter(start[name].clone()) for name in shapes)


def momentum(group):
    return group["betas"][0] if "betas" in group else group["momentum"]


def descend(case, kind, *groups, schedule=None, clip=None, average=None, swing=False):
    """One group of options for both parameters, or one for each."""
    problem = Problem()
    parameters = [[problem.w, problem.u]] if len(groups) == 1 else [[problem.w], [problem.u]]
    optimizer = kind([dict(params=p, **options) for p, options in zip(parameters, groups)], lr=1e-3)
    scheduled = schedule and schedule(optimizer)
    averaged = average and average(problem)
    records = {}

    def record(name, value):
        records.setdefault(name, []).append(torch.as_tensor(value).detach().clone())

    for step in range(100):
        if scheduled:
            record("lr", [group["lr"] for group in optimizer.param_groups])
            record("momentum", [momentum(group) for group in optimizer.param_groups])
        for name, p in problem.named_parameters():
            sign = -1 if swing and step % 2 else 1
            p.grad = curvature[name] * p.detach() - sign * target[name]
        if clip:
            record("norm", clip_grad_norm_(problem.parameters(), clip))
        optimizer.step()
        if averaged:
            averaged.update_parameters(problem)
        if step % 10 == 9:
            for name, p in problem.named_parameters():
                record(name, p)
            for name, p in averaged.module.named_parameters() if averaged else []:
                record("average." + name, p)
        if scheduled:
            scheduled.step(*[float(metrics[step])] * isinstance(scheduled, ReduceLROnPlateau))
    for name, values in records.items():
        file.add(f"{case}:{name}", torch.stack(values))


# --- optimizers -------------------------------------------------------------------------------------------------------

descend("sgd/plain", SGD, dict(lr=0.1))
descend("sgd/momentum", SGD, dict(lr=0.1, momentum=0.9))
descend("sgd/dampening", SGD, dict(lr=0.1, momentum=0.8, dampening=0.3))
descend("sgd/nesterov", SGD, dict(lr=0.1, momentum=0.9, nesterov=True))
descend("sgd/weight_decay", SGD, dict(lr=0.1, weight_decay=0.05))
descend("sgd/all", SGD, dict(lr=0.03, momentum=0.85, weight_decay=5e-3, nesterov=True))
descend("sgd/groups", SGD, dict(lr=0.1, momentum=0.9, weight_decay=0.05), dict(lr=0.02))

for name, kind in [("adam", Adam), ("adamw", AdamW)]:
    descend(name + "/default", kind, dict())
    descend(name + "/lr", kind, dict(lr=0.05))
    descend(name + "/betas", kind, dict(lr=0.05, betas=(0.7, 0.95)))
    descend(name + "/eps", kind, dict(lr=0.05, eps=0.1))
    descend(name + "/weight_decay", kind, dict(lr=0.05, weight_decay=0.2))
    descend(name + "/amsgrad", kind, dict(lr=0.05, betas=(0.8, 0.9), amsgrad=True))
    descend(name + "/all", kind, dict(lr=0.03, betas=(0.6, 0.9), eps=1e-3, weight_decay=0.1, amsgrad=True), swing=True)
    descend(name + "/groups", kind, dict(lr=0.05, weight_decay=0.1), dict(lr=0.02, betas=(0.8, 0.99), amsgrad=True))

descend("rmsprop/default", RMSprop, dict(lr=0.01))
descend("rmsprop/alpha", RMSprop, dict(lr=0.01, alpha=0.8))
descend("rmsprop/eps", RMSprop, dict(lr=0.01, eps=0.1))
descend("rmsprop/weight_decay", RMSprop, dict(lr=0.01, weight_decay=0.1))
descend("rmsprop/momentum", RMSprop, dict(lr=0.003, momentum=0.9))
descend("rmsprop/centered", RMSprop, dict(lr=0.01, centered=True), swing=True)
descend("rmsprop/all", RMSprop,
        dict(lr=0.003, alpha=0.9, eps=1e-3, weight_decay=0.1, momentum=0.7, centered=True), swing=True)
descend("rmsprop/groups", RMSprop, dict(lr=0.01, weight_decay=0.1), dict(lr=0.003, momentum=0.8, centered=True),
        swing=True)

# --- clipping and averages --------------------------------------------------------------------------------------------

descend("clip/sgd", SGD, dict(lr=0.1, momentum=0.9), clip=0.5)
descend("clip/adam", Adam, dict(lr=0.05), clip=1.0, swing=True)
descend("average/ema", SGD, dict(lr=0.1, momentum=0.9), average=lambda net: AveragedModel(
    net, avg_fn=lambda average, p, _: 0.9 * average + 0.1 * p))
descend("average/swa", SGD, dict(lr=0.1, momentum=0.9), average=AveragedModel)

# --- schedules --------------------------------------------------------------------------------------------------------


def warmed_up(inner, start_factor=1 / 3, total_iters=5):
    def make(optimizer):
        linear = LinearLR(optimizer, start_factor, total_iters=total_iters)
        return SequentialLR(optimizer, [linear, inner(optimizer)], milestones=[total_iters])
    return make


def schedules(case, kind, options, schedule):
    """On one group, and on two that begin with another lr each."""
    descend(case, kind, options, schedule=schedule)
    descend(case + "/groups", kind, options, dict(options, lr=options["lr"] / 4), schedule=schedule)


heavy = dict(lr=0.1, momentum=0.9)
schedules("step/default", SGD, heavy, lambda o: StepLR(o, 30))
schedules("step/gamma", SGD, heavy, lambda o: StepLR(o, 7, gamma=0.8))
schedules("multi_step/default", SGD, heavy, lambda o: MultiStepLR(o, [20, 60]))
schedules("multi_step/gamma", SGD, heavy, lambda o: MultiStepLR(o, [50, 1, 30, 30, 99], gamma=0.5))
schedules("cosine/default", SGD, heavy, lambda o: CosineAnnealingLR(o, 100))
schedules("cosine/eta_min", SGD, dict(lr=0.2), lambda o: CosineAnnealingLR(o, 100, eta_min=0.01))
schedules("cosine/beyond_T_max", SGD, dict(lr=0.1), lambda o: CosineAnnealingLR(o, 30, eta_min=0.01))
schedules("one_cycle/default", SGD, heavy, lambda o: OneCycleLR(o, 0.2, 100))
schedules("one_cycle/nesterov", SGD, dict(heavy, nesterov=True), lambda o: OneCycleLR(o, 0.1, 100, pct_start=0.2))
schedules("one_cycle/factors", SGD, dict(lr=0.1, momentum=0.5),
          lambda o: OneCycleLR(o, 0.2, 100, div_factor=10, final_div_factor=100, base_momentum=0.7, max_momentum=0.9))
schedules("one_cycle/linear", SGD, heavy, lambda o: OneCycleLR(o, 0.2, 100, anneal_strategy="linear"))
schedules("one_cycle/three_phase", SGD, heavy, lambda o: OneCycleLR(o, 0.2, 100, pct_start=0.25, three_phase=True))
schedules("one_cycle/fixed_momentum", SGD, heavy, lambda o: OneCycleLR(o, 0.2, 100, cycle_momentum=False))
schedules("one_cycle/adam", Adam, dict(lr=0.01), lambda o: OneCycleLR(o, 0.05, 100))
schedules("one_cycle/rmsprop", RMSprop, dict(lr=0.01), lambda o: OneCycleLR(o, 0.003, 100))

schedules("plateau/default", SGD, heavy, lambda o: ReduceLROnPlateau(o))
schedules("plateau/short", SGD, heavy, lambda o: ReduceLROnPlateau(o, factor=0.5, patience=2, cooldown=3))
schedules("plateau/max", SGD, heavy, lambda o: ReduceLROnPlateau(o, mode="max", factor=0.7, patience=4, min_lr=0.004))
schedules("plateau/abs", SGD, heavy,
          lambda o: ReduceLROnPlateau(o, factor=0.5, patience=3, threshold=0.2, threshold_mode="abs"))
schedules("plateau/max_abs", SGD, heavy,
          lambda o: ReduceLROnPlateau(o, "max", factor=0.5, patience=3, threshold=0.1, threshold_mode="abs", eps=2e-3))
schedules("plateau/rel", SGD, heavy, lambda o: ReduceLROnPlateau(o, factor=0.5, patience=1, threshold=0.3))

schedules("warmup/step", SGD, heavy, warmed_up(lambda o: StepLR(o, 20)))
schedules("warmup/cosine", SGD, heavy, warmed_up(lambda o: CosineAnnealingLR(o, 90), 0.1, 10))
schedules("warmup/one_cycle", Adam, dict(lr=0.01), warmed_up(lambda o: OneCycleLR(o, 0.05, 80), 0.2, 20))

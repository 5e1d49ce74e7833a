"""Online methods and self-distillation compute what was published: losses and gradients.

Layers of networks that are inputs of a case (classifiers on embeddings) are run by the test; what
the method has itself is loaded into it.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hsakd.models.distillers import (
    BAKE,
    BYOT,
    CLILR,
    CSKD,
    DDGSD,
    DML,
    FFL,
    KD,
    KDCL,
    MCL,
    ONE,
    PSKD,
    BYOTJournal,
    MCLMemory,
    MixSKD,
    OKDDip,
    TfKD,
)
from hsakd.models.losses import KLDivergence, LossWeights
from hsakd.models.method import Batch
from hsakd.models.necks.tree_branches import divide_gradient
from hsakd.models.networks import Outputs
from hsakd.registry import MODELS
from hsakd.structures import BatchedLabels
from tests.conftest import network_cfg
from tests.golden_cases import golden
from tests.method_inputs_online import learning, make
from tests.test_golden_methods import agrees

GOLDEN = golden('methods_online')
Arrays = Mapping[str, Tensor]


def assert_agrees(ours: Tensor, name: str) -> None:
    agrees(ours, GOLDEN[name], name)


def inputs(case: str) -> dict[str, Tensor]:
    arrays = {name: torch.as_tensor(np.array(a)) for name, a in make(case, 'public').items()}
    for name in learning(case, 'public'):
        arrays[name].requires_grad_()
    return arrays


def listed(arrays: Arrays, start: str) -> list[Tensor]:
    return [arrays[f'{start}_{i}'] for i in range(9) if f'{start}_{i}' in arrays]


def linear(arrays: Arrays, name: str, x: Tensor) -> Tensor:
    return F.linear(x, arrays[f'{name}.weight'], arrays.get(f'{name}.bias'))


def loaded(method: torch.nn.Module, arrays: Arrays, rename: Callable = str):
    """A method in float64 with its layers' weights, which are those of the arrays from here on."""
    method.double().train()
    own = method.state_dict()
    method.load_state_dict({n: a for k, a in arrays.items() if (n := rename(k)) in own}, False)
    for name, parameter in method.named_parameters():
        source = next(k for k in arrays if rename(k) == name)
        arrays[source].grad = None
        arrays[source].layer = parameter
    return method


def check_gradients(case: str, arrays: Arrays, loss: Tensor, key: str = 'grad') -> None:
    """All gradients of a loss agree with the stored ones."""
    learned = {n: getattr(arrays[n], 'layer', arrays[n]) for n in learning(case, 'public')}
    found = torch.autograd.grad(loss, [*learned.values()], allow_unused=True, retain_graph=True)
    for (name, array), gradient in zip(learned.items(), found, strict=True):
        gradient = torch.zeros_like(array) if gradient is None else gradient
        assert_agrees(gradient, f'{case}/{key}_{name}')


def summed(method, losses: Mapping[str, Tensor], epoch: int = 0) -> Tensor:
    """The total with the method's default weights."""
    return sum(LossWeights(None, method.default_weights)(losses, epoch).values())


def of(losses: Mapping[str, Tensor], end: str) -> Tensor:
    """The sum of the terms of one kind."""
    return sum(loss for name, loss in losses.items() if name.endswith(end))


@pytest.mark.parametrize('case', ['dml', 'dml_pernet', 'dml_ensfirst', 'kdcl'])
def test_networks_that_teach_each_other(case: str) -> None:
    arrays = inputs(case)
    outputs = [Outputs(z) for z in listed(arrays, 'logits')]
    kl = dict(type='KLDivergence')
    settings = {
        'dml': dict(kd_loss=dict(kl, temperature=2.0)),
        'dml_pernet': {},
        'dml_ensfirst': dict(target='mean', kd_loss=dict(kl, eps=1e-7, detach=False)),
        'kdcl': {},
    }[case]
    method = (KDCL if case == 'kdcl' else DML)([o.shapes for o in outputs], **settings)
    losses = method.compare(outputs, arrays['labels'], Batch([]))
    loss = summed(method, losses)
    check_gradients(case, arrays, loss)
    for i in range(len(outputs)):
        own = {name: term for name, term in losses.items() if name.startswith(f'net{i}_')}
        if case in ('dml_pernet', 'kdcl'):
            assert_agrees(summed(method, own), f'{case}/loss_{i}')
    if case in ('dml', 'dml_ensfirst'):
        assert_agrees(loss, f'{case}/loss')
    if case == 'dml':
        assert_agrees(of(losses, 'loss_cls'), 'dml/loss_cls')
        assert_agrees(of(losses, 'loss_kd'), 'dml/loss_div')
    if case == 'dml_ensfirst':
        method.kl.detach = True
        losses = method.compare(outputs, arrays['labels'], Batch([]))
        check_gradients(case, arrays, summed(method, losses), 'grad_detached')


def test_cl_ilr() -> None:
    arrays = inputs('cl_ilr')
    shared, logits = divide_gradient(arrays['trunk']), []
    for i in range(4):
        mid = divide_gradient(linear(arrays, f'mid_{i // 2}', shared))
        logits.append(linear(arrays, f'classifier_{i}', mid))
    o = Outputs(logits[0], tuple(logits[1:]))
    method = CLILR(o.shapes)
    losses = method.compare(o, arrays['labels'], Batch([]))
    loss = summed(method, losses)
    assert_agrees(loss, 'cl_ilr/loss')
    assert_agrees(0.5 * losses['loss_kd'], 'cl_ilr/loss_div')
    check_gradients('cl_ilr', arrays, loss)


def peers(arrays: Arrays) -> list[Tensor]:
    return [linear(arrays, f'classifier_{i}', h) for i, h in enumerate(listed(arrays, 'emb'))]


def test_one() -> None:
    arrays = inputs('one')
    logits = peers(arrays)
    o = Outputs(logits[0], tuple(logits[1:]), maps=(arrays['trunk'],))
    method = loaded(ONE(o.shapes, level=0), arrays)
    losses = method.compare(o, arrays['labels'], Batch([]))
    loss = summed(method, losses)
    assert_agrees(loss, 'one/loss')
    assert_agrees(losses['loss_cls'] + losses['loss_ensemble'], 'one/loss_cls')
    assert_agrees(losses['loss_kd'], 'one/loss_div')
    check_gradients('one', arrays, loss)
    assert_agrees(method.gate_norm.running_mean, 'one/gate_norm_running_mean')
    assert_agrees(method.gate_norm.running_var, 'one/gate_norm_running_var')


def test_one_with_a_ramp() -> None:
    arrays = inputs('one_rampup')
    logits = listed(arrays, 'logits')
    o = Outputs(logits[0], tuple(logits[1:]), maps=(torch.zeros(8, 4, 2, 2),))
    method = ONE(o.shapes, level=0, kd_loss=dict(type='KLDivergence', eps=1e-7))
    losses = method.terms(logits, arrays['logits_t'], arrays['labels'])
    method.default_weights = dict(method.default_weights, loss_kd=dict(ramp_epochs=80))
    loss = summed(method, losses, int(arrays['epoch']))
    assert_agrees(loss, 'one_rampup/loss')
    check_gradients('one_rampup', arrays, loss)


@pytest.mark.parametrize('case', ['okddip', 'okddip_eps'])
def test_okddip(case: str) -> None:
    arrays = inputs(case)
    *followers, leader = peers(arrays)
    o = Outputs(leader, tuple(followers), branch_embeddings=tuple(listed(arrays, 'emb')[:-1]))
    method = loaded(OKDDip(o.shapes), arrays)
    method.kl = KLDivergence(3.0, eps=1e-7 if case == 'okddip_eps' else 0.0, detach=False)
    for key in ('grad', 'grad_detached'):
        losses = method.compare(o, arrays['labels'], Batch([]))
        loss = summed(method, losses, int(arrays['epoch']))
        assert_agrees(loss, f'{case}/loss')
        assert_agrees(losses['loss_peers_cls'], f'{case}/loss_peers_cls')
        assert_agrees(losses['loss_peers_kd'], f'{case}/loss_peers_div')
        check_gradients(case, arrays, loss, key)
        method.kl.detach = True


def head_names(name: str) -> str:
    return name.replace('head_', 'head.').replace('memory_', 'memory.') + '.rows' * (
        name.startswith('memory_')
    )


@pytest.mark.parametrize('case', ['mcl', 'mcl_memory'])
def test_mcl(case: str) -> None:
    arrays = inputs(case)
    logits = listed(arrays, 'logits') or [None, None]
    outputs = [Outputs(z, embedding=h) for z, h in zip(logits, listed(arrays, 'emb'), strict=True)]
    kind = MCL if case == 'mcl' else MCLMemory
    method = kind([o.shapes for o in outputs], dim=12)
    names = [f'loss_{name}' for name in ('vcl', 'soft_vcl', 'icl', 'soft_icl')]
    if case == 'mcl':
        method = loaded(method, arrays, head_names)
        losses = method.compare(outputs, arrays['labels'], Batch([]))
        method.default_weights = dict(method.default_weights, loss_kd=1.0)
        assert_agrees(of(losses, 'loss_cls'), 'mcl/loss_cls')
        assert_agrees(losses['loss_kd'], 'mcl/loss_logit_kd')
        mine = {name: losses[name] for name in names}
        assert_agrees(summed(method, mine), 'mcl/loss_mcl')
    else:
        method.remember(torch.arange(40))
        method = loaded(method, arrays, head_names)
        drawn = dict(positives=arrays['positives'], negatives=arrays['negatives'])
        losses = method.terms(outputs, None, Batch(BatchedLabels(None, arrays['own'])), **drawn)
        for i, memory in enumerate(method.memory):
            assert_agrees(memory.rows, f'mcl_memory/memory_after_{i}')
    for name in names:
        assert_agrees(losses[name], f'{case}/{name}')
    loss = summed(method, losses)
    assert_agrees(loss, f'{case}/loss')
    check_gradients(case, arrays, loss)


def teacher_names(name: str) -> str:
    return name.replace('teacher.', 'self_teacher.').replace('critic_', 'critic.')


def test_mixskd() -> None:
    arrays = inputs('mixskd')
    *logits, own = listed(arrays, 'logits')
    *maps, own_map = listed(arrays, 'map')
    o = Outputs(own, tuple(logits), last_maps=(own_map, *maps))
    method = loaded(MixSKD(o.shapes), arrays, teacher_names)
    drawn = dict(lam=float(arrays['lam']), order=arrays['index'])
    losses = method.compare(o, arrays['labels'], Batch([]), **drawn)
    terms = dict(
        cls='loss_cls', mixcls='loss_mixcls', div='loss_kd', fea='loss_hint', gan='loss_gan'
    )
    for theirs, ours in terms.items():
        assert_agrees(losses[ours], f'mixskd/loss_{theirs}')
    full = summed(method, losses)
    assert_agrees(full, 'mixskd/loss_full')
    check_gradients('mixskd', arrays, full, 'grad_full')
    script = full - losses['loss_mixcls']
    assert_agrees(script, 'mixskd/loss_cifar_script')
    check_gradients('mixskd', arrays, script, 'grad_cifar_script')


@pytest.mark.parametrize('case', ['byot', 'byot_journal'])
def test_byot(case: str) -> None:
    arrays = inputs(case)
    own, *logits = listed(arrays, 'logits')
    if case == 'byot':
        o = Outputs(own, tuple(logits), last_maps=tuple(listed(arrays, 'map')))
        method = BYOT(o.shapes)
    else:
        h, *others = listed(arrays, 'emb')
        o = Outputs(own, tuple(logits), embedding=h, branch_embeddings=tuple(others))
        rename = {
            f'adapt_{i}.{p}': f'adapt.{i - 2}.{p}' for i in (2, 3) for p in ('weight', 'bias')
        }
        method = loaded(BYOTJournal(o.shapes), arrays, lambda name: rename.get(name, name))
    losses = method.compare(o, arrays['labels'], Batch([]))
    loss = summed(method, losses)
    assert_agrees(loss, f'{case}/loss')
    check_gradients(case, arrays, loss)


def test_cs_kd() -> None:
    arrays = inputs('cs_kd')
    o = Outputs(arrays['logits'])
    method = CSKD(o.shapes)
    losses = method.compare(o, Outputs(arrays['logits_pair']), arrays['labels'], Batch([]))
    assert_agrees(losses['loss_cls'], 'cs_kd/loss_cls')
    assert_agrees(losses['loss_kd'], 'cs_kd/loss_div')
    check_gradients('cs_kd', arrays, summed(method, losses))


def test_ddgsd() -> None:
    arrays = inputs('ddgsd')
    pairs = zip(listed(arrays, 'logits'), listed(arrays, 'emb'), strict=True)
    views = [Outputs(z, embedding=h) for z, h in pairs]
    method = DDGSD(views[0].shapes)
    losses = method.compare(*views, arrays['labels'], Batch([]))
    loss = summed(method, losses)
    assert_agrees(loss, 'ddgsd/loss')
    check_gradients('ddgsd', arrays, loss)


def test_bake() -> None:
    arrays = inputs('bake')
    o = Outputs(arrays['logits'], embedding=arrays['embedding'])
    method = BAKE(o.shapes)
    losses = method.compare(o, arrays['labels'], Batch([]))
    assert_agrees(losses['loss_kd'], 'bake/loss_div')
    loss = summed(method, losses)
    assert_agrees(loss, 'bake/loss')
    check_gradients('bake', arrays, loss)


def test_ffl() -> None:
    arrays = inputs('ffl')
    z_0, z_1 = listed(arrays, 'logits')
    o = Outputs(z_0, (z_1,), last_maps=tuple(listed(arrays, 'map')))
    method = loaded(FFL(o.shapes), arrays, lambda name: f'fusion.{name}')
    losses = method.compare(o, arrays['labels'], Batch([]))
    loss = summed(method, losses, int(arrays['epoch']))
    assert_agrees(losses['loss_cls'], 'ffl/loss_cls')
    assert_agrees(loss, 'ffl/loss')
    check_gradients('ffl', arrays, loss)


def test_ps_kd() -> None:
    arrays = inputs('ps_kd')
    o = Outputs(arrays['logits'])
    method = PSKD(o.shapes)
    method.remember(torch.zeros(len(arrays['memory']), dtype=torch.long))
    method.double().load_state_dict(dict(memory=arrays['memory']))
    samples = BatchedLabels(arrays['labels'], arrays['rows'])
    batch = Batch(samples, int(arrays['epoch']), int(arrays['epochs']))
    loss = method.compare(o, arrays['labels'], batch)['loss_cls']
    assert_agrees(loss, 'ps_kd/loss')
    check_gradients('ps_kd', arrays, loss)
    assert_agrees(method.memory, 'ps_kd/memory_after')
    first = method.compare(o, arrays['labels'], Batch(samples))['loss_cls']  # of labels alone
    assert torch.isclose(first, F.cross_entropy(o.logits, arrays['labels']))


@pytest.mark.parametrize('case', ['tf_kd_reg', 'tf_kd_reg_lib', 'tf_kd_self', 'label_smooth'])
def test_virtual_teachers(case: str) -> None:
    arrays = inputs(case)
    o, y = Outputs(arrays['logits']), arrays['labels']
    if case == 'label_smooth':
        smooth = dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1 * 10 / 9)
        network = network_cfg(num_classes=10, branches=False)
        network['head']['loss'] = smooth
        loss = MODELS.build(network).cross_entropy(o.logits, y)
    elif case == 'tf_kd_self':
        method = KD(o.shapes, o.shapes, kd_loss=dict(type='KLDivergence', temperature=6.0))
        losses = method.compare(o, Outputs(arrays['logits_teacher']), y, Batch([]))
        loss = 0.05 * losses['loss_cls'] + 0.95 * 50 / 10 * losses['loss_kd']
    elif case == 'tf_kd_reg':
        method = TfKD(o.shapes)
        loss = summed(method, method.compare(o, y, Batch([])))
    else:
        losses = TfKD(o.shapes, correct=0.9, form='library').compare(o, y, Batch([]))
        loss = losses['loss_cls'] + losses['loss_kd']
    assert_agrees(loss, f'{case}/loss')
    check_gradients(case, arrays, loss)

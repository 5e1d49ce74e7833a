"""Offline methods compute what was published: losses, gradients and three steps of training.

The arrays with more than 40 numbers are stored as three projections on fixed noise, and their
largest value.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from hsakd.models import distillers
from hsakd.models.distillers import FeatureDistiller
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.registry import MODELS
from tests.golden_cases import _fill, batch, golden
from tests.method_inputs import learning, make
from tests.test_golden import converted

GOLDEN = golden('methods_offline')


def assert_agrees(ours: Tensor, name: str) -> None:
    ours, theirs = ours.detach().numpy(), GOLDEN[name]
    size = np.abs(theirs).max()
    if ours.size > 40:
        noise = np.random.Generator(np.random.PCG64(0)).standard_normal((3, ours.size))
        ours, size = np.append(noise @ ours.ravel(), np.abs(ours).max()), theirs[-1]
        size *= np.sqrt(noise.shape[1])
    assert np.abs(ours - theirs).max() <= 1e-9 * size + 1e-13, name


def term(*names: str) -> Callable[[Mapping], Tensor]:
    return lambda losses: sum(losses[name] for name in names)


WARM = 13 / 20
#: Method, its settings, the loss that is stored, and other stored terms by ours.
CASES: dict[str, tuple[str, dict, Callable, dict]] = {
    'kd': ('KD', {}, lambda x: 0.1 * x['loss_cls'] + 0.9 * x['loss_kd'],
           dict(loss_cls='loss_cls', loss_div='loss_kd')),
    'kd_std': ('KD', dict(standardize=True, kd_loss=dict(type='KLDivergence', temperature=2.0)),
               lambda x: 0.1 * x['loss_cls'] + 9 * x['loss_kd'], {}),
    'fitnet': ('FitNet', dict(level=0), term('loss_hint'), {}),
    'fitnet_down': ('FitNet', dict(level=0), term('loss_hint'), {}),
    'fitnet_up': ('FitNet', dict(level=0), term('loss_hint'), {}),
    'fitnet_crop': ('FitNet', dict(level=0), term('loss_hint'), {}),
    'at': ('AT', {}, term('loss_at'), {}),
    'nst': ('NST', {}, term('loss_nst'), {}),
    'sp': ('SP', {}, term('loss_sp'), {}),
    'cc': ('CC', dict(dim=12), term('loss_cc'), {}),
    'vid': ('VID', {}, term('loss_vid'), {}),
    'rkd': ('RKD', {}, lambda x: 25 * x['loss_distance'] + 50 * x['loss_angle'],
            dict(loss_distance='loss_distance', loss_angle='loss_angle')),
    'pkt': ('PKT', {}, term('loss_pkt'), {}),
    'dkd': ('DKD', {}, lambda x: x['loss_cls'] + WARM * (x['loss_target'] + 8 * x['loss_rest']),
            dict(loss_target='loss_target', loss_rest='loss_rest')),
    'dkd_std': ('DKD', dict(standardize=True, temperature=2.0),
                lambda x: x['loss_cls'] + 9 * WARM * (x['loss_target'] + 8 * x['loss_rest']), {}),
    'reviewkd': ('ReviewKD', {}, term('loss_review'), {}),
    'dist': ('DIST', {}, lambda x: x['loss_cls'] + 2 * (x['loss_inter'] + x['loss_intra']),
             dict(loss_inter='loss_inter', loss_intra='loss_intra')),
}  # fmt: skip


def outputs(case: str, arrays: Mapping[str, Tensor], who: str) -> Outputs:
    names = [name for name in arrays if name.startswith(f'map_{who}')]
    maps = tuple(arrays[name] for name in names)
    embedding, before = arrays.get(f'emb_{who}'), ()
    if case == 'reviewkd':
        *maps, last = maps
        embedding = last.flatten(1)
    if case in ('at', 'nst', 'vid', 'reviewkd'):  # of stages: the stem's comes first
        maps = before = (torch.zeros(1, 1, 1, 1), *maps)
    return Outputs(arrays.get(f'logits_{who}'), (), tuple(maps), before, embedding)


def shapes(given: Outputs) -> Outputs:
    return Outputs(*(
        tuple(tensor.shape[1:] for tensor in part) if isinstance(part, tuple)
        else None if part is None else tuple(part.shape[1:])
        for part in given
    ))  # fmt: skip


def our_name(name: str) -> str:
    return name.replace('vid_', 'vid.').replace('abf_', 'abf.')


def on_tensors(case: str, arrays: Mapping[str, Tensor], dtype=torch.float64):
    """A method without networks, with helper weights, and all terms of given tensors."""
    kind, settings, *_ = CASES[case]
    s, t = (outputs(case, arrays, who) for who in 'st')
    method = getattr(distillers, kind)(shapes(s), shapes(t), **settings).to(dtype).train()
    names = method.state_dict()
    method.load_state_dict(
        {our_name(n): v for n, v in arrays.items() if our_name(n) in names}, strict=False
    )
    run = method.terms if s.logits is None else method.compare
    return method, run(s, t, arrays.get('labels'), Batch([]))


@pytest.mark.parametrize('case', CASES)
def test_losses_and_gradients(case: str) -> None:
    arrays = {name: torch.from_numpy(np.array(a)) for name, a in make(case, 'public').items()}
    for name in learning(case, 'public'):
        arrays[name].requires_grad_()
    method, losses = on_tensors(case, arrays)
    loss = CASES[case][2](losses)
    loss.backward()
    assert_agrees(loss, f'{case}/loss')
    for theirs, ours in CASES[case][3].items():
        assert_agrees(losses[ours], f'{case}/{theirs}')
    helpers = dict(method.named_parameters())
    for name in learning(case, 'public'):
        owner = helpers.get(our_name(name), arrays[name])
        assert_agrees(owner.grad, f'{case}/grad_{name}')


#: Method, settings, factor of the method's terms by name, and in the stored term.
TRAININGS: dict[str, tuple[str, dict]] = {
    'kd': ('KD', {}),
    'fitnet': ('FitNet', {}),
    'at': ('AT', {}),
    'nst': ('NST', {}),
    'sp': ('SP', {}),
    'cc': ('CC', {}),
    'vid': ('VID', {}),
    'rkd': ('RKD', {}),
    'pkt': ('PKT', {}),
    'dkd': ('DKD', dict(loss_rest=dict(weight=2.0, warmup_epochs=20))),
    'reviewkd': ('ReviewKD', dict(loss_review=dict(weight=0.6, warmup_epochs=20))),
    'dist': ('DIST', {}),
}


def fill_helpers(method: FeatureDistiller) -> None:
    """Helper layers by their names in the text; variances keep their own start."""
    for name, parameter in method.named_parameters():
        if not name.startswith(('student.', 'teacher.')) and not name.endswith('log_scale'):
            published = name.replace('vid.', 'vid_').replace('abf.', 'abf_')
            value = _fill(published, tuple(parameter.shape), 'helper')
            parameter.data = torch.from_numpy(value)
        elif name.endswith('log_scale'):
            parameter.data.fill_(np.log(np.expm1(5 - 1e-5)))


@pytest.mark.parametrize('case', TRAININGS)
def test_three_steps(case: str) -> None:
    kind, weights = TRAININGS[case]
    student, teacher = converted('resnet20_aux', 'student'), converted('resnet56_aux', 'teacher')
    configs = [dict(c['meta']['model'], branches=None) for c in (student, teacher)]
    model = MODELS.build(
        dict(type=kind, student=configs[0], teacher=configs[1], loss_weights=weights)
    ).double()
    model.student.load_state_dict(student['state_dict'], strict=False)
    model.teacher.load_state_dict(teacher['state_dict'], strict=False)
    fill_helpers(model)
    model.train()
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.01, momentum=0.9, weight_decay=5e-4)
    name = f'train_{case}_resnet20_from_resnet56'
    for step in (1, 2, 3):
        images, labels = batch(step)
        losses = model.losses(images, labels, Batch([]))
        loss = sum(model.loss_weights(losses, epoch=12).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert_agrees(loss, f'{name}/loss_{step}')
        assert_agrees(losses['loss_cls'], f'{name}/cls_{step}')
        assert_agrees(losses['loss_kd'], f'{name}/div_{step}')
    with torch.no_grad():
        assert_agrees(model.student.eval().logits(batch(0)[0])[0], f'{name}/final_logits')

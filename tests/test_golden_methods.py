"""Offline methods compute what was published: losses, gradients and three steps of training.

The arrays with more than 40 numbers are stored as three projections on fixed noise, and their
largest value.
"""

import itertools
import re
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from hsakd.models import distillers
from hsakd.models.distillers import CRD, SSKD, FeatureDistiller, SelfDistiller
from hsakd.models.losses.features import most_confident, similarity_of_copies
from hsakd.models.method import Batch
from hsakd.models.networks.branched_classifier import Outputs
from hsakd.models.transforms import Rotation
from hsakd.registry import MODELS
from hsakd.structures import BatchedLabels
from tests.golden_cases import _fill, batch, golden
from tests.method_inputs import learning, make
from tests.test_golden import converted

GOLDEN = golden('methods_offline')


def assert_agrees(ours: Tensor, name: str) -> None:
    agrees(ours, GOLDEN[name], name)


def agrees(ours: Tensor, theirs: np.ndarray, name: str) -> None:
    ours = ours.detach().numpy()
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
    'ab': ('AB', {}, lambda x: 0.003 * x['loss_ab'], {}),
    'fsp': ('FSP', {}, term('loss_fsp'), {}),
    'ft_paraphraser': ('FTParaphraser', {}, term('loss_para'), {}),
    'ft': ('FT', {}, term('loss_ft'), {}),
    'sskd_teacher': ('SSKDHead', {}, term('loss_ss'), {}),
    'sskd': ('SSKD', {}, lambda x: sum(SSKD.default_weights[key] * x[key] for key in x),
             dict(loss_cls='loss_cls', loss_div='loss_kd', loss_tf='loss_tf', loss_ss='loss_ss')),
}  # fmt: skip


def outputs(case: str, arrays: Mapping[str, Tensor], who: str) -> Outputs:
    names = [name for name in arrays if name.startswith(f'map_{who}')]
    maps = tuple(arrays[name] for name in names)
    embedding, before = arrays.get(f'emb_{who}'), ()
    if case == 'reviewkd':
        *maps, last = maps
        embedding = last.flatten(1)
    if case in ('at', 'nst', 'vid', 'reviewkd', 'ab'):  # of stages: the stem's comes first
        maps = before = (torch.zeros(1, 1, 1, 1), *maps)
    return Outputs(arrays.get(f'logits_{who}'), (), tuple(maps), before, embedding)


def our_name(name: str) -> str:
    return re.sub(r'^(vid|abf|con)_', r'\1.', name)


def on_tensors(case: str, arrays: Mapping[str, Tensor], dtype=torch.float64):
    """A method without networks, with helper weights, and all terms of given tensors."""
    kind, settings, *_ = CASES[case]
    s, t = (outputs(case, arrays, who) for who in 'st')
    alone = issubclass(getattr(distillers, kind), SelfDistiller)  # of the teacher
    given = [t] if alone else [s, t]
    method = getattr(distillers, kind)(*(o.shapes for o in given), **settings).to(dtype).train()
    names = method.state_dict()
    method.load_state_dict(
        {our_name(n): v for n, v in arrays.items() if our_name(n) in names}, strict=False
    )
    run = method.compare if alone or s.logits is not None else method.terms
    return method, run(*given, arrays.get('labels'), Batch([]))


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
    'crd': ('CRD', {}),
    'sskd': ('SSKD', {}),
}


def fill_helpers(method: FeatureDistiller) -> None:
    """Helper layers by their names in the text; variances keep their own start."""
    if method.remember:
        method.remember(torch.arange(40))
        method.double()
    own = itertools.chain(method.named_parameters(), method.named_buffers())
    for name, parameter in own:
        if name.startswith('memory_'):
            parameter.copy_(torch.from_numpy(_fill(name[:8], (40, 128), 'helper')))
    for name, parameter in method.named_parameters():
        if not name.startswith(('student.', 'teacher.')) and not name.endswith('log_scale'):
            published = re.sub(r'^(vid|abf)\.', r'\1_', name)
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
        own = torch.arange(4 * step - 4, 4 * step)
        given, drawn = Batch(BatchedLabels(labels, own)), {}
        if case == 'crd':
            drawn['negatives'] = (own[:, None] + 5 + 3 * torch.arange(9)) % 40
        if case == 'sskd':
            images = Rotation()(images)
        s, t = model.student.outputs(images), model.teacher_outputs(images)
        losses = model.compare(s, t, labels, given, **drawn)
        loss = sum(model.loss_weights(losses, epoch=12).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert_agrees(loss, f'{name}/loss_{step}')
        assert_agrees(losses['loss_cls'], f'{name}/cls_{step}')
        assert_agrees(losses['loss_kd'], f'{name}/div_{step}')
        for key in ('tf', 'ss') if case == 'sskd' else ():
            assert_agrees(losses[f'loss_{key}'], f'{name}/{key}_{step}')
    with torch.no_grad():
        assert_agrees(model.student.eval().logits(batch(0)[0])[0], f'{name}/final_logits')


def test_crd_remembers() -> None:
    """Two steps: the second one with the memories and the constants of the first."""
    arrays = {name: torch.from_numpy(np.array(a)) for name, a in make('crd', 'public').items()}
    given = [tuple(Outputs(None, embedding=arrays[f'emb_{w}_{i}']) for w in 'st') for i in (1, 2)]
    method = CRD(*(o.shapes for o in given[0]), dim=12)
    method.remember(torch.arange(40))
    weights = {
        n.replace('memory_s', 'memory_s.rows').replace('memory_t', 'memory_t.rows'): a
        for n, a in arrays.items()
    }
    method.double().load_state_dict(weights, strict=False)
    for step, (s, t) in enumerate(given, 1):
        s.embedding.requires_grad_()
        method.zero_grad()
        batch = Batch(BatchedLabels(None, arrays[f'own_{step}']))
        negatives = arrays[f'negatives_{step}']
        loss = method.terms(s, t, None, batch, negatives=negatives)['loss_crd']
        loss.backward()
        assert_agrees(loss, f'crd/loss_{step}')
        assert_agrees(s.embedding.grad, f'crd/grad_{step}_emb_s_{step}')
        for name, parameter in method.named_parameters():
            assert_agrees(parameter.grad, f'crd/grad_{step}_{name}')
        for who in 'st':
            memory = getattr(method, f'memory_{who}')
            assert_agrees(memory.rows, f'crd/memory_{who}_after_{step}')
            assert_agrees(getattr(method, f'z_{who}'), f'crd/z_{who}')


def test_which_copies_sskd_keeps() -> None:
    arrays = {name: torch.from_numpy(np.array(a)) for name, a in make('sskd', 'public').items()}
    method, _ = on_tensors('sskd', arrays)
    similarity, right = similarity_of_copies(method.head_t(arrays['emb_t']))
    assert_agrees(similarity, 'sskd/similarity_t')
    assert most_confident(similarity, right, 0.75).tolist() == GOLDEN['sskd/kept_ss'].tolist()


def test_three_steps_of_the_head_of_sskd() -> None:
    checkpoint = converted('resnet56_aux', 'teacher')
    model = MODELS.build(
        dict(type='SSKDHead', student=dict(checkpoint['meta']['model'], branches=None))
    ).double()
    model.student.load_state_dict(checkpoint['state_dict'], strict=False)
    for name, parameter in model.head_t.named_parameters():
        parameter.data = torch.from_numpy(_fill(f'head_t.{name}', tuple(parameter.shape), 'helper'))
    model.train()
    optimizer = torch.optim.SGD(model.head_t.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    name = 'train_sskd-head_resnet56'
    for step in (1, 2, 3):
        images, labels = batch(step)
        outputs = model.student.outputs(Rotation()(images))
        loss = model.compare(outputs, labels, Batch([]))['loss_ss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert_agrees(loss, f'{name}/loss_{step}')
    with torch.no_grad():
        outputs = model.student.outputs(Rotation()(batch(0)[0]))
        found, _ = similarity_of_copies(model.head_t(outputs.embedding))
    assert_agrees(found, f'{name}/final_similarity')

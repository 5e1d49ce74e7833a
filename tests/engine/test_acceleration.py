"""Accelerated training computes what plain training does, and leaves state dicts as they are."""

import copy
import functools
import sys

import pytest
import torch
from torch import nn
from torch._inductor import custom_graph_pass

import hsakd
from hsakd.engine import acceleration
from hsakd.engine.acceleration import (
    accelerate,
    fold_batch_norms,
    use_channels_last,
)
from hsakd.ops import FrozenWinogradConv2d, StridedPointwiseConv2d, WinogradConv2d
from hsakd.registry import MODELS
from hsakd.utils.errors import ConfigError
from tests.conftest import batch, network_cfg

MODEL_CFGS = dict(
    baseline=network_cfg(branches=False, width=16),
    teacher=network_cfg(type='HSAKDTeacher', width=16),
    offline=dict(
        type='HSAKDOffline',
        student=network_cfg(width=16),
        teacher=network_cfg(depth=14, width=16),
    ),
    online=dict(type='HSAKDOnline', networks=2 * [network_cfg(width=16)]),
)


def build(name, dtype=torch.float32):
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(MODEL_CFGS[name]))
    for module in model.modules():  # as after training, not what they start with
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)
    if name == 'offline':
        model.teacher.load_state_dict(model.teacher.state_dict())
    return model.to(dtype).train()


def losses_of_steps(model, steps=3, dtype=torch.float32):
    """Losses of some steps, in which weights change."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.01, momentum=0.9)
    torch.manual_seed(1)
    inputs, samples = batch(6, dtype=dtype)
    losses = []
    for _ in range(steps):
        terms = model(inputs, samples, mode='loss')
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        losses.append(torch.stack(list(terms.values())).detach())
    return torch.stack(losses)


@pytest.mark.parametrize('name', MODEL_CFGS)
def test_exact_is_the_plain_computation(name):
    plain, exact = build(name, torch.float64), build(name, torch.float64)
    accelerate(exact)
    wanted = losses_of_steps(plain, dtype=torch.float64)
    torch.testing.assert_close(
        losses_of_steps(exact, dtype=torch.float64), wanted, rtol=1e-9, atol=1e-9
    )
    assert exact.state_dict().keys() == plain.state_dict().keys()
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(exact.state_dict()[key], value, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize('name', MODEL_CFGS)
def test_fast_is_exact_within_its_precision(name):
    plain, fast = build(name), build(name)
    accelerate(fast, fast=True)
    on_cpu = acceleration.has_bfloat16(torch.device('cpu'))
    tolerance = dict(rtol=0.05, atol=0.05) if on_cpu else dict(rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(losses_of_steps(fast), losses_of_steps(plain), **tolerance)
    assert fast.state_dict().keys() == plain.state_dict().keys()
    inputs, samples = batch(3)
    scores = [
        torch.stack([s.pred_score for s in model.eval()(inputs, samples, mode='predict')])
        for model in (fast, plain)
    ]
    torch.testing.assert_close(*scores, **tolerance)


@pytest.mark.slow
@pytest.mark.parametrize('name', MODEL_CFGS)
def test_fast_networks_are_one_graph(name):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = build(name)
    accelerate(model, fast=True)
    losses_of_steps(model)
    counters = torch._dynamo.utils.counters
    # Equal networks may share one, in which weights are inputs.
    graphs = dict(baseline=(1,), teacher=(1,), offline=(2,), online=(1, 2))[name]
    assert counters['stats']['unique_graphs'] in graphs
    assert not counters['graph_break']


@pytest.mark.parametrize('bfloat16', [False, True])
def test_convolutions_are_exchanged_on_cpus_without_bfloat16(bfloat16, monkeypatch):
    compile_by('eager', monkeypatch)
    monkeypatch.setattr(acceleration, 'has_bfloat16', lambda device: bfloat16)
    model = build('offline')
    names = list(model.state_dict())
    accelerate(model, fast=True)
    with torch.autocast('cpu', enabled=False):
        model(*batch(2), mode='loss')
    kinds = {}
    for network in (model.student, model.teacher.outputs.prepared):
        convs = [m for m in network.modules() if 'Conv2d' in type(m).__name__]
        assert len(convs) > 10
        for conv in convs[1:]:  # the first has 3 channels
            kinds.setdefault(type(conv), []).append(conv)
    if bfloat16:
        assert kinds.keys() == {nn.Conv2d}
    else:
        assert kinds.keys() == {WinogradConv2d, FrozenWinogradConv2d, StridedPointwiseConv2d}
        assert all(conv.stride == (2, 2) for conv in kinds[StridedPointwiseConv2d])
        assert any(conv.stride == (2, 2) for conv in kinds[WinogradConv2d])
        assert any(conv.stride == 2 for conv in kinds[FrozenWinogradConv2d])
    assert list(model.state_dict()) == names


@pytest.mark.parametrize('width', [4, 16])
def test_folded_network_gives_the_same_logits(width):
    cfg = network_cfg(depth=14, width=width)
    network = MODELS.build(cfg).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    before = copy.deepcopy(network.state_dict())
    folded = fold_batch_norms(network, images[:2])
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(folded.logits(images), network.logits(images))
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())


class Twice(nn.Module):
    """A convolution whose output goes to a norm and elsewhere: it cannot be folded."""

    def __init__(self, channels=16):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        out = self.conv(x)
        return out + self.norm(out)


def test_what_cannot_be_folded_stays_as_it_is():
    network = MODELS.build(network_cfg(width=16)).eval()
    network.backbone.layer1.append(Twice().eval())
    nn.init.uniform_(network.backbone.layer1[-1].norm.running_mean, -1, 1)
    images = torch.randn(2, 3, 16, 16)
    folded = fold_batch_norms(network, images)
    torch.testing.assert_close(folded.logits(images), network.logits(images))
    assert any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


def test_pre_activation_norms_before_convolutions_are_kept():
    cfg = network_cfg()
    cfg['backbone'] = dict(type='WideResNet', depth=10, widen_factor=1)
    cfg['head']['in_channels'] = 64
    network = MODELS.build(cfg).eval()
    images = torch.randn(2, 3, 16, 16)
    folded = fold_batch_norms(network, images)
    torch.testing.assert_close(folded.logits(images), network.logits(images))
    first, second = (stage[0] for stage in folded.backbone.stages[:2])
    # The stem's output goes to the first norm and past the block.
    assert isinstance(first.bn1, nn.BatchNorm2d) and isinstance(first.bn2, nn.Identity)
    assert isinstance(second.bn1, nn.BatchNorm2d) and isinstance(second.bn2, nn.Identity)


def test_what_is_tapped_is_the_same_when_accelerated(monkeypatch):
    compile_by('eager', monkeypatch)
    model = build('offline', torch.float64)
    for network in (model.student, model.teacher):
        network.tap('maps', 'pre_activations', 'embedding')
    plain = copy.deepcopy(model)
    accelerate(model, fast=True)
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    for name in ('student', 'teacher'):
        found, wanted = (getattr(m, name).outputs(images) for m in (model, plain))
        assert len(found.maps) == len(found.pre_activations) == 4
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4, check_dtype=False)


def test_a_larger_teacher_adds_nothing_to_what_the_backward_pass_keeps():
    kept = []
    for depth in (8, 20):
        cfg = copy.deepcopy(MODEL_CFGS['offline'])
        cfg['teacher']['backbone']['depth'] = depth
        model = MODELS.build(cfg).train()
        model.teacher.load_state_dict(model.teacher.state_dict())
        accelerate(model)
        inputs, samples = batch(4)
        model(inputs, samples, mode='loss')  # the first one makes the teacher's copy
        saved = {}

        def keep(tensor, saved=saved):
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            losses = model(inputs, samples, mode='loss')
        kept.append(sum(saved.values()))
        assert all(loss.requires_grad for loss in losses.values())
    assert kept[0] == kept[1] > 0


def compile_by(backend, monkeypatch):
    """Let torch.compile use another backend, which takes no time."""
    original = torch.compile
    monkeypatch.setattr(
        torch,
        'compile',
        lambda run, dynamic, options: original(run, dynamic=dynamic, backend=backend),
    )


@pytest.fixture
def notices(monkeypatch):
    """What fast mode says of names that torch lacks, on a CPU without bfloat16."""
    said = []
    monkeypatch.setattr(acceleration, '_say_once', functools.cache(said.append))
    monkeypatch.setattr(acceleration, 'has_bfloat16', lambda device: False)
    return said


def gives_outputs(model):
    model.train()
    terms = model(*batch(2), mode='loss')
    sum(terms.values()).backward()
    return all(torch.isfinite(term) for term in terms.values())


@pytest.mark.parametrize('name', ['CustomGraphPass', 'get_hash_for_files'])
def test_operators_are_left_out_where_a_private_name_has_moved(name, notices, monkeypatch):
    compile_by('eager', monkeypatch)
    for module in [module for module in sys.modules if module.startswith('hsakd.ops')]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delattr(hsakd, 'ops')
    monkeypatch.delattr(custom_graph_pass, name)
    model = build('offline')
    accelerate(model, fast=True)
    assert gives_outputs(model)
    networks = model.student, model.teacher.outputs.prepared
    convs = [m for network in networks for m in network.modules() if 'Conv2d' in type(m).__name__]
    assert {type(conv) for conv in convs} == {nn.Conv2d}
    (notice,) = notices
    assert name in notice and torch.__version__ in notice and '\n' not in notice


def test_compilation_is_plain_where_the_compiler_lacks_an_option(notices, monkeypatch):
    asked, original = [], torch.compile

    def compile_without_options(run, dynamic, options):
        asked.append(options)
        if options:  # raises what torch does of such options
            original(run, dynamic=dynamic, options=dict(options, moved_away=True))
        return original(run, dynamic=dynamic, backend='eager')

    monkeypatch.setattr(torch, 'compile', compile_without_options)
    model = build('offline')
    accelerate(model, fast=True)
    assert gives_outputs(model)
    assert [options is None for options in asked] == [False, True, False, True]
    (notice,) = notices
    assert 'joint_custom_post_pass' in notice and torch.__version__ in notice


def test_many_networks_are_compiled_each(monkeypatch):
    compile_by('eager', monkeypatch)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    images = torch.randn(2, 3, 16, 16)
    for width in range(8, 18):
        model = MODELS.build(network_cfg(branches=False, width=width)).train()
        accelerate(model, fast=True)
        model.logits(images)
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] == 10


def test_a_copy_of_an_accelerated_network_is_another_one(monkeypatch):
    compile_by('eager', monkeypatch)
    model = build('teacher')
    accelerate(model, fast=True)
    images = torch.randn(2, 3, 16, 16)
    model.logits(images)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    for mode in (True, False):
        f, c = other.train(mode).logits(images)
        assert not any(logits.any() for logits in (f, *c))
        f, c = model.train(mode).logits(images)
        assert all(logits.any() for logits in (f, *c))


def test_maps_for_a_gpu_are_left_as_they_are_but_in_fast_mode():
    gpu = torch.device('cuda')
    for fast in (False, True):
        model = build('teacher')
        use_channels_last(model, gpu, fast)
        weight = model.backbone.layer1[0].conv1.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == fast


def test_networks_that_torch_would_break_stay_as_they_are():
    model = MODELS.build(network_cfg(width=4))  # a 1x1 convolution of 4 channels at stride 2
    accelerate(model)
    assert all(w.is_contiguous() for w in model.backbone.parameters())


def test_weights_are_channels_last_on_a_cpu_and_detectors_left_alone():
    model = build('offline')
    accelerate(model)
    weight = model.student.backbone.layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    other = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1))
    accelerate(other)
    with pytest.raises(ConfigError, match='fast.*Sequential'):
        accelerate(other, fast=True)
    assert type(other[0]) is nn.Conv2d and other[0].weight.is_contiguous()

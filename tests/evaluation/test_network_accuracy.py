import torch

from hsakd.evaluation import BranchAccuracy, NetworkAccuracy
from hsakd.registry import MODELS
from tests.conftest import batch, network_cfg


def test_each_network_has_the_accuracies_it_would_have_alone():
    model = MODELS.build(dict(type='HSAKDOnline', networks=[network_cfg(), network_cfg(depth=14)]))
    inputs, samples = batch(8)
    predicted = model.eval().val_step(dict(inputs=list(inputs), data_samples=samples))
    assert predicted is not None and len(predicted) == 8
    metric = NetworkAccuracy()
    for half in (predicted[:4], predicted[4:]):
        metric.process({}, [sample.to_dict() for sample in half])
    found = metric.evaluate(8)
    for index, network in enumerate(model.networks):
        right = network(inputs)[0].argmax(1) == torch.cat([s.gt_label for s in samples])
        assert found[f'net{index}/accuracy/top1'] == 100 * right.float().mean().item()
        alone = BranchAccuracy()
        own = network.predict_with_branches(inputs, [s.clone() for s in samples])
        alone.process({}, [sample.to_dict() for sample in own])
        for name, value in alone.evaluate(8).items():
            assert found[f'net{index}/{name}'] == value
    assert len(found) == 2 * (1 + 2 * 3)
    # The samples themselves are those of the first network, for the other metrics.
    first = model.networks[0](inputs)[0].argmax(1)
    assert [int(s.pred_label) for s in predicted] == first.tolist()

import torch

from hsakd.evaluation import BranchAccuracy
from tests.conftest import batch


def test_counts_joint_labels_of_all_copies_and_classes_of_the_unrotated_one():
    _, samples = batch(2)  # labels 0 and 1
    samples[0].set_field(torch.tensor([[0, 1, 2, 3], [0, 0, 0, 0]]), 'pred_joint_label')
    samples[0].set_field(torch.tensor([0, 3]), 'pred_branch_label')
    samples[1].set_field(torch.tensor([[4, 5, 6, 0], [7, 7, 7, 7]]), 'pred_joint_label')
    samples[1].set_field(torch.tensor([1, 1]), 'pred_branch_label')
    metric = BranchAccuracy()
    metric.process({}, [sample.to_dict() for sample in samples])
    assert metric.evaluate(2) == {
        'branch_1/class_top1': 100.0,
        'branch_1/joint_top1': 87.5,
        'branch_2/class_top1': 50.0,
        'branch_2/joint_top1': 25.0,
    }

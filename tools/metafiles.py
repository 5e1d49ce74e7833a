#!/usr/bin/env python
"""Write model-index.yml and configs/*/metafile.yml: papers, configs, published and own figures.

Run it, or ``make metafiles``, when there is another config or figure; a test says when.
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hsakd.results.names import ConfigName, all_configs  # noqa: E402

HSSAKD = (
    'Knowledge Distillation Using Hierarchical Self-Supervision Augmented Distribution',
    'https://arxiv.org/abs/2109.03075',
)
#: Folder of configs: name of the method, title and address of its paper.
PAPERS = {
    'ablation': ('Ablation', *HSSAKD),
    'ab': (
        'AB',
        'Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons',
        'https://arxiv.org/abs/1811.03233',
    ),
    'at': (
        'AT',
        'Paying More Attention to Attention: Improving the Performance of Convolutional Neural '
        'Networks via Attention Transfer',
        'https://arxiv.org/abs/1612.03928',
    ),
    'bake': (
        'BAKE',
        'Self-distillation with Batch Knowledge Ensembling Improves ImageNet Classification',
        'https://arxiv.org/abs/2104.13298',
    ),
    'baseline': ('Baseline', *HSSAKD),
    'byot': (
        'BYOT',
        'Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks via Self '
        'Distillation',
        'https://arxiv.org/abs/1905.08094',
    ),
    'cc': (
        'CC',
        'Correlation Congruence for Knowledge Distillation',
        'https://arxiv.org/abs/1904.01802',
    ),
    'cl-ilr': (
        'CL-ILR',
        'Collaborative Learning for Deep Neural Networks',
        'https://arxiv.org/abs/1805.11761',
    ),
    'crd': ('CRD', 'Contrastive Representation Distillation', 'https://arxiv.org/abs/1910.10699'),
    'cskd': (
        'CS-KD',
        'Regularizing Class-wise Predictions via Self-knowledge Distillation',
        'https://arxiv.org/abs/2003.13964',
    ),
    'ddgsd': (
        'DDGSD',
        'Data-Distortion Guided Self-Distillation for Deep Neural Networks',
        'https://doi.org/10.1609/aaai.v33i01.33015565',
    ),
    'detection': ('Detection', *HSSAKD),
    'dist': (
        'DIST',
        'Knowledge Distillation from A Stronger Teacher',
        'https://arxiv.org/abs/2205.10536',
    ),
    'dkd': ('DKD', 'Decoupled Knowledge Distillation', 'https://arxiv.org/abs/2203.08679'),
    'dml': ('DML', 'Deep Mutual Learning', 'https://arxiv.org/abs/1706.00384'),
    'few_shot': ('Few-shot', *HSSAKD),
    'ffl': (
        'FFL',
        'Feature Fusion for Online Mutual Knowledge Distillation',
        'https://arxiv.org/abs/1904.09058',
    ),
    'fitnet': ('FitNet', 'FitNets: Hints for Thin Deep Nets', 'https://arxiv.org/abs/1412.6550'),
    'fsp': (
        'FSP',
        'A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer '
        'Learning',
        'https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html',
    ),
    'ft': (
        'FT',
        'Paraphrasing Complex Network: Network Compression via Factor Transfer',
        'https://arxiv.org/abs/1802.04977',
    ),
    'hsakd': ('HSSAKD', *HSSAKD),
    'kd': (
        'KD',
        'Distilling the Knowledge in a Neural Network',
        'https://arxiv.org/abs/1503.02531',
    ),
    'kdcl': (
        'KDCL',
        'Online Knowledge Distillation via Collaborative Learning',
        'https://openaccess.thecvf.com/content_CVPR_2020/html/Guo_Online_Knowledge_Distillation_'
        'via_Collaborative_Learning_CVPR_2020_paper.html',
    ),
    'label_smoothing': (
        'Label smoothing',
        'Rethinking the Inception Architecture for Computer Vision',
        'https://arxiv.org/abs/1512.00567',
    ),
    'linear_eval': ('Linear evaluation', *HSSAKD),
    'mcl': (
        'MCL',
        'Mutual Contrastive Learning for Visual Representation Learning',
        'https://arxiv.org/abs/2104.12565',
    ),
    'mixskd': (
        'MixSKD',
        'MixSKD: Self-Knowledge Distillation from Mixup for Image Recognition',
        'https://arxiv.org/abs/2208.05768',
    ),
    'nst': (
        'NST',
        'Like What You Like: Knowledge Distill via Neuron Selectivity Transfer',
        'https://arxiv.org/abs/1707.01219',
    ),
    'okddip': (
        'OKDDip',
        'Online Knowledge Distillation with Diverse Peers',
        'https://arxiv.org/abs/1912.00350',
    ),
    'one': (
        'ONE',
        'Knowledge Distillation by On-the-Fly Native Ensemble',
        'https://arxiv.org/abs/1806.04606',
    ),
    'pkt': (
        'PKT',
        'Learning Deep Representations with Probabilistic Knowledge Transfer',
        'https://arxiv.org/abs/1803.10837',
    ),
    'pskd': (
        'PS-KD',
        'Self-Knowledge Distillation with Progressive Refinement of Targets',
        'https://arxiv.org/abs/2006.12000',
    ),
    'reviewkd': (
        'ReviewKD',
        'Distilling Knowledge via Knowledge Review',
        'https://arxiv.org/abs/2104.09044',
    ),
    'rkd': ('RKD', 'Relational Knowledge Distillation', 'https://arxiv.org/abs/1904.05068'),
    'sp': (
        'SP',
        'Similarity-Preserving Knowledge Distillation',
        'https://arxiv.org/abs/1907.09682',
    ),
    'sskd': (
        'SSKD',
        'Knowledge Distillation Meets Self-Supervision',
        'https://arxiv.org/abs/2006.07114',
    ),
    'tfkd': (
        'Tf-KD',
        'Revisiting Knowledge Distillation via Label Smoothing Regularization',
        'https://arxiv.org/abs/1909.11723',
    ),
    'vid': (
        'VID',
        'Variational Information Distillation for Knowledge Transfer',
        'https://arxiv.org/abs/1904.05835',
    ),
}
_DATASETS = {
    'cifar10': 'CIFAR-10',
    'cifar100': 'CIFAR-100',
    'coco': 'COCO',
    'digits': "scikit-learn's digits",
    'imagenet': 'ImageNet-1k',
    'stl10': 'STL-10',
    'tiny-imagenet': 'Tiny-ImageNet',
    'voc0712': 'VOC 07+12',
}
_METRICS = {'accuracy/top1': 'Top 1 Accuracy', 'accuracy/top5': 'Top 5 Accuracy'}


def figures(table: str) -> dict[str, list[dict]]:
    """Rows of hsakd/results/TABLE.csv by config."""
    found = defaultdict(list)
    for row in csv.DictReader((ROOT / f'hsakd/results/{table}.csv').open(encoding='utf-8')):
        found[row['config']].append(row)
    return found


def results(config: str, published: dict, measured: dict) -> list[dict]:
    """What is known of a config, with where it is from."""
    dataset = config.rpartition('_')[2]
    task = 'Object Detection' if 'rcnn' in config or 'retinanet' in config else ''
    sources = [('Published', row) for row in published.get(config, [])]
    sources += [('Measured', row) for row in measured.get(config, [])]
    found = []
    for kind, row in sources:
        source = row['source'] + (f', {row["teacher"]} teacher' if row.get('teacher') else '')
        found.append(
            {
                'Task': task or 'Image Classification',
                'Dataset': _DATASETS.get(dataset, dataset),
                'Metrics': {_METRICS.get(row['metric'], row['metric']): float(row['value'])},
                kind: source,
            }
        )
    return found


def contents() -> dict[Path, str]:
    """All files and what has to be in them."""
    published, measured = figures('published'), figures('measured')
    folders = defaultdict(list)
    for file in all_configs():
        folders[file.relative_to(ROOT / 'configs').parts[0]].append(file)
    files = {}
    for folder, configs in sorted(folders.items()):
        name, title, url = PAPERS[folder]
        collection = {
            'Name': name,
            'Paper': {'Title': title, 'URL': url},
            'README': 'docs/methods.md',
        }
        models = []
        for file in configs:
            path = file.relative_to(ROOT).as_posix()
            model = {'Name': file.stem, 'In Collection': name, 'Config': path}
            parts = ConfigName.parse(file.stem)
            if parts:
                model['Metadata'] = {
                    'Training Data': _DATASETS.get(parts.dataset, parts.dataset),
                    f'{parts.unit.capitalize()}s': parts.length,
                    'Batch Size': parts.gpus * parts.batch,
                    'Architecture': list(parts.networks),
                }
            found = results(file.stem, published, measured)
            models.append({**model, **({'Results': found} if found else {})})
        files[ROOT / 'configs' / folder / 'metafile.yml'] = {
            'Collections': [collection],
            'Models': models,
        }
    index = {'Import': [path.relative_to(ROOT).as_posix() for path in files]}
    files[ROOT / 'model-index.yml'] = index
    note = '# Written by tools/metafiles.py.\n'
    return {
        path: note + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
        for path, content in files.items()
    }


if __name__ == '__main__':
    for path, text in contents().items():
        path.write_text(text, encoding='utf-8')

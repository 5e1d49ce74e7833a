"""What a detector's backbone starts from, and on which images that was trained."""

import logging
import re

import pytest
import torch
from mmdet.registry import MODELS as DETECTORS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain import get_model

from hsakd.apis import load_classifier, publish
from hsakd.engine.pretrained_backbone import (
    load_pretrained_backbone,
    prepare_pretrained_backbone,
    prepare_trained_detector,
)
from hsakd.registry import MODELS
from hsakd.utils.errors import CheckpointError, ConfigError
from tests.conftest import ROOT, network_cfg
from tests.imagenet_files import save_torchvision

MEAN, STD = [120.0, 110.0, 100.0], [60.0, 50.0, 40.0]
FILES = [
    dict(type='LoadImage'),
    dict(type='mmpretrain.Resize', scale=(32, 32)),
    dict(type='mmpretrain.PackInputs'),
]


def resnet18(**kwargs):
    cfg = network_cfg(num_classes=3, **kwargs)
    cfg['backbone'] = dict(type='mmpretrain.ResNet', depth=18)
    cfg['head']['in_channels'] = 512
    return cfg


def models():
    return dict(
        baseline=resnet18(branches=False),
        teacher=dict(resnet18(), type='HSAKDTeacher'),
        offline=dict(
            type='HSAKDOffline', student=resnet18(), teacher=resnet18(), teacher_ckpt=None
        ),
        online=dict(type='HSAKDOnline', networks=[resnet18(), resnet18()]),
    )


def detector(name='faster-rcnn_resnet18-fpn_8xb2-4e_voc0712', **overrides):
    cfg = Config.fromfile(ROOT / f'configs/detection/voc/{name}.py')
    cfg.merge_from_dict(overrides)
    return cfg


def build(cfg):
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DETECTORS.build(cfg.model)


def save(path, model_cfg, to_rgb=True, pipeline=FILES, dataset='ImageFolder', **backbone):
    """What tools/train.py leaves of a model."""
    torch.manual_seed(1)
    model = MODELS.build(model_cfg)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean)
    cfg = dict(
        default_scope='hsakd',
        model=model_cfg,
        data_preprocessor=dict(mean=MEAN, std=STD, to_rgb=to_rgb),
        test_dataloader=dict(dataset=dict(type=dataset, pipeline=pipeline)),
    )
    meta = dict(cfg=Config(cfg).pretty_text, dataset_meta=dict(classes=['a', 'b', 'c']))
    torch.save(dict(meta=meta, state_dict=model.state_dict()), path)
    return model


def equal(backbone, wanted):
    found = backbone.state_dict()
    return wanted.keys() == found.keys() and all(torch.equal(found[k], wanted[k]) for k in wanted)


def prepared(path, **overrides):
    """The detector's config after preparation, and what was said."""
    cfg = detector(pretrained_backbone=str(path), **overrides)
    return cfg, *prepare_pretrained_backbone(cfg)


@pytest.mark.parametrize(
    'name, network',
    [('baseline', None), ('teacher', None), ('offline', None), ('online', None)] + [('online', 1)],
)
def test_every_weight_lands(tmp_path, name, network):
    trained = save(tmp_path / 'trained.pth', models()[name])
    trained = getattr(trained, 'student', trained)
    if name == 'online':
        trained = trained.networks[network or 0]
    cfg, level, notice = prepared(tmp_path / 'trained.pth', pretrained_network=network)
    model = build(cfg)
    report = load_pretrained_backbone(model, cfg.pretrained_backbone, cfg.pretrained_network)
    assert equal(model.backbone, trained.backbone.state_dict())
    assert '120 weights matched (backbone), 0 missing, unexpected: none' in report
    assert ('(network 1 of 2)' in report) == (network == 1)
    preprocessor = cfg.model.data_preprocessor
    assert (preprocessor.mean, preprocessor.std, preprocessor.bgr_to_rgb) == (MEAN, STD, True)
    assert level == logging.INFO and '120, 110, 100' in notice and '123.675' in notice


def test_published_student(tmp_path):
    save(tmp_path / 'trained.pth', models()['offline'], to_rgb=False)
    classifier = load_classifier(tmp_path / 'trained.pth')
    published, _ = publish(classifier, tmp_path / 'student')
    cfg, *_ = prepared(published)
    model = build(cfg)
    load_pretrained_backbone(model, str(published), None)
    assert equal(model.backbone, classifier.backbone.state_dict())
    preprocessor = cfg.model.data_preprocessor
    assert preprocessor.mean == MEAN and preprocessor.bgr_to_rgb is False  # trained on BGR


def test_classifier_of_mmpretrain(tmp_path):
    theirs = get_model('resnet18_8xb32_in1k')
    torch.save(dict(state_dict=theirs.state_dict()), tmp_path / 'theirs.pth')
    cfg, level, notice = prepared(tmp_path / 'theirs.pth')
    assert level == logging.WARNING and 'does not say which normalization' in notice
    assert '123.675' in notice  # that of the config
    torch.save(
        dict(state_dict=theirs.state_dict(), meta=dict(cfg=theirs._config.pretty_text)),
        tmp_path / 'theirs.pth',
    )
    cfg, level, notice = prepared(tmp_path / 'theirs.pth')
    assert level == logging.INFO and 'was trained with' in notice
    model = build(cfg)
    load_pretrained_backbone(model, str(tmp_path / 'theirs.pth'), None)
    assert equal(model.backbone, theirs.backbone.state_dict())


def test_resnet_of_torchvision(tmp_path):
    theirs = save_torchvision(tmp_path / 'weights.pth', 'resnet50').double()
    wrong = dict(mean=[0.0, 0, 0], std=[1.0, 1, 1], bgr_to_rgb=False)
    cfg, _, notice = prepared(tmp_path / 'weights.pth', **{'model.data_preprocessor': wrong})
    assert cfg.model.data_preprocessor.mean == [123.675, 116.28, 103.53]
    assert cfg.model.data_preprocessor.bgr_to_rgb is True
    cfg = detector('faster-rcnn_resnet50-c4_8xb2-18000i_voc0712')
    cfg.pretrained_backbone = str(tmp_path / 'weights.pth')
    prepare_pretrained_backbone(cfg)
    model = build(cfg).double().eval()
    report = load_pretrained_backbone(model, cfg.pretrained_backbone, None)
    assert 'backbone and roi_head.shared_head' in report and 'unexpected: none' in report
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        ours = model.roi_head.shared_head(model.backbone(images)[0])
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
            x = layer(x)
    torch.testing.assert_close(ours, x, rtol=1e-9, atol=1e-9)


def test_backbone_of_another_family(tmp_path):
    cfg = network_cfg(num_classes=3)
    cfg['backbone'] = dict(type='mmpretrain.MobileNetV2')
    cfg['head']['in_channels'] = 1280
    trained = save(tmp_path / 'trained.pth', cfg)
    cfg = detector()
    out_indices = (1, 2, 4, 6)  # as in docs/detection.md
    cfg.model.backbone = dict(type='mmpretrain.MobileNetV2', out_indices=out_indices)
    cfg.model.neck.in_channels = [24, 32, 96, 320]
    cfg.pretrained_backbone = str(tmp_path / 'trained.pth')
    prepare_pretrained_backbone(cfg)
    model = build(cfg).eval()
    report = load_pretrained_backbone(model, cfg.pretrained_backbone, None)
    assert equal(model.backbone, trained.backbone.state_dict()) and 'unexpected: none' in report
    strides = [64 // x.shape[-1] for x in model.extract_feat(torch.randn(1, 3, 64, 64))]
    assert strides[:4] == [4, 8, 16, 32]


def test_weights_without_a_place_are_reported(tmp_path):
    save_torchvision(tmp_path / 'weights.pth')
    cfg = detector('retinanet_resnet18-fpn_8xb2-4e_voc0712')
    cfg.model.backbone.update(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1))
    cfg.model.backbone.update(out_indices=(0, 1, 2), init_cfg=None)
    cfg.model.neck.update(in_channels=[64, 128, 256])
    report = load_pretrained_backbone(build(cfg), str(tmp_path / 'weights.pth'), None)
    assert 'unexpected: 30 (layer4.0.conv1.weight, ' in report


def test_half_a_backbone_is_refused(tmp_path):
    save_torchvision(tmp_path / 'weights.pth', 'resnet34')
    model = build(prepared(tmp_path / 'weights.pth')[0])
    before = {k: v.clone() for k, v in model.state_dict().items()}
    path = tmp_path / 'weights.pth'
    with pytest.raises(CheckpointError, match='model.backbone.*layer1.2.conv1.weight'):
        load_pretrained_backbone(model, str(path), None)
    deeper = detector(**{'model.backbone.depth': 34, 'model.backbone.init_cfg': None})
    with pytest.raises(CheckpointError, match=r'model\.backbone.*missing'):
        weights = torch.load(path)
        del weights['layer3.1.bn2.running_mean']
        torch.save(weights, tmp_path / 'part.pth')
        load_pretrained_backbone(build(deeper), str(tmp_path / 'part.pth'), None)
    save(tmp_path / 'small.pth', network_cfg(depth=8, num_classes=3))
    with pytest.raises(CheckpointError, match='shape'):
        load_pretrained_backbone(model, str(tmp_path / 'small.pth'), None)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_bottlenecks_of_another_style_are_refused(tmp_path):
    cfg = resnet18(branches=False)
    cfg['backbone'].update(depth=50, style='caffe')
    cfg['head']['in_channels'] = 2048
    save(tmp_path / 'caffe.pth', cfg)
    cfg = detector('faster-rcnn_resnet50-fpn_8xb2-4e_voc0712')
    cfg.pretrained_backbone = str(tmp_path / 'caffe.pth')
    with pytest.raises(CheckpointError, match="model.backbone.style.*'caffe'.*'pytorch'"):
        prepare_pretrained_backbone(cfg)
    cfg.model.backbone.style = 'caffe'
    prepare_pretrained_backbone(cfg)
    content = dict(meta=dict(cfg=cfg.pretty_text), state_dict={'backbone.a': torch.zeros(1)})
    torch.save(content, tmp_path / 'caffe_detector.pth')
    cfg.pretrained_backbone = str(tmp_path / 'caffe_detector.pth')
    prepare_pretrained_backbone(cfg)
    cfg.model.backbone.style = 'pytorch'
    with pytest.raises(CheckpointError, match="model.backbone.style.*'caffe'"):
        prepare_pretrained_backbone(cfg)


@pytest.mark.parametrize(
    'value, message',
    [
        (None, 'pretrained_backbone: .* got None'),
        (3, 'pretrained_backbone: .* got 3'),
        ('nowhere.pth', "pretrained_backbone: .* got 'nowhere.pth'"),
        ('random', 'expected model.backbone.frozen_stages=-1 model.backbone.norm_eval=False'),
    ],
)
def test_values_that_are_refused(value, message):
    with pytest.raises((CheckpointError, ConfigError), match=message):
        prepare_pretrained_backbone(detector(pretrained_backbone=value))


def test_number_of_a_network_that_is_not_there(tmp_path):
    save(tmp_path / 'online.pth', models()['online'])
    with pytest.raises(CheckpointError, match='online.pth.* network 2 .* 0, 1'):
        prepared(tmp_path / 'online.pth', pretrained_network=2)
    save_torchvision(tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError, match='network 0'):
        prepared(tmp_path / 'weights.pth', pretrained_network=0)


def test_random_weights_under_mmdets_defaults():
    backbone = dict(_delete_=True, type='ResNet', depth=18, norm_cfg=dict(type='BN'))
    with pytest.raises(ConfigError, match='norm_eval=False'):  # its default is True
        prepare_pretrained_backbone(
            detector(pretrained_backbone='random', **{'model.backbone': backbone})
        )


def test_models_of_another_make_are_left_alone(tmp_path):
    cfg = detector()
    cfg.pop('pretrained_backbone')
    cfg.model = dict(type='SoftTeacher', detector=cfg.model)
    torch.save(dict(state_dict={}), tmp_path / 'weights.pth')
    assert prepare_trained_detector(cfg, str(tmp_path / 'weights.pth'), 'checkpoint') is None


def test_random_weights_learn_everywhere(tmp_path):
    cfg = detector('faster-rcnn_resnet50-c4_8xb2-18000i_voc0712', pretrained_backbone='random')
    with pytest.raises(ConfigError) as refused:
        prepare_pretrained_backbone(cfg)
    options = re.findall(r'\S+=\S+\b', str(refused.value).split('expected ')[1])
    for option in options:
        key, value = option.split('=')
        cfg.merge_from_dict({key: eval(value)})
    prepare_pretrained_backbone(cfg)
    model = build(cfg).train()
    model.init_weights()  # mmdet's config names a checkpoint of torchvision's by its address
    parts = (model.backbone, model.roi_head.shared_head)
    assert all(p.requires_grad for part in parts for p in part.parameters())
    assert all(module.training for part in parts for module in part.modules())


@pytest.mark.parametrize('key', ['checkpoint', 'resume', 'load_from'])
def test_a_detectors_checkpoint_decides_the_normalization(tmp_path, key):
    cfg = detector()
    cfg.model.data_preprocessor.update(mean=MEAN, std=STD, bgr_to_rgb=False)
    weights = {'rpn_head.rpn_cls.weight': torch.zeros(1)}
    path = str(tmp_path / 'detector.pth')
    torch.save(dict(meta=dict(cfg=cfg.pretty_text), state_dict=weights), path)
    other = detector(pretrained_backbone='moved_away.pth')
    level, notice = prepare_trained_detector(other, path, key)
    found = other.model.data_preprocessor
    assert (found.mean, found.std, found.bgr_to_rgb) == (MEAN, STD, False)
    assert level == logging.INFO and 'BGR, as' in notice and 'instead of' in notice
    torch.save(dict(state_dict=weights), path)  # from elsewhere
    other = detector()
    level, _ = prepare_trained_detector(other, path, key)
    assert level == logging.WARNING
    assert other.model.data_preprocessor == detector().model.data_preprocessor


def test_classifier_is_no_detector(tmp_path):
    save_torchvision(tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError, match='load_from=.*pretrained_backbone.*rpn_head'):
        prepare_trained_detector(detector(), str(tmp_path / 'weights.pth'), 'load_from')


def test_backbone_of_a_detector(tmp_path):
    cfg = detector()
    cfg.model.data_preprocessor.update(mean=MEAN, std=STD, bgr_to_rgb=False)
    cfg.model.backbone.init_cfg = None
    trained = build(cfg)
    content = dict(meta=dict(cfg=cfg.pretty_text), state_dict=trained.state_dict())
    torch.save(content, tmp_path / 'detector.pth')
    cfg, *_ = prepared(tmp_path / 'detector.pth')
    assert cfg.model.data_preprocessor.mean == MEAN
    model = build(cfg)
    load_pretrained_backbone(model, str(tmp_path / 'detector.pth'), None)
    assert equal(model.backbone, trained.backbone.state_dict())


def of(tmp_path, change):
    """The normalization that is read from a checkpoint whose config was changed."""
    from hsakd.utils.checkpoint import read_checkpoint
    from hsakd.utils.config_text import parse_config
    from hsakd.utils.normalization import checkpoint_normalization

    pipeline = [dict(type='mmpretrain.PackInputs')]
    save(tmp_path / 'a.pth', models()['baseline'], False, pipeline, dataset='CIFAR10')
    checkpoint = read_checkpoint(tmp_path / 'a.pth', 'a')
    cfg = parse_config(checkpoint['meta']['cfg'])
    change(cfg)
    checkpoint['meta']['cfg'] = cfg.pretty_text
    return checkpoint_normalization(checkpoint, None)


def test_images_in_memory_are_rgb(tmp_path):
    """Of training data alone, and in a wrapper."""

    def change(cfg):
        dataset = dict(type='RepeatDataset', times=2, dataset=cfg.test_dataloader.dataset)
        cfg.train_dataloader, cfg.test_dataloader = dict(dataset=dataset), None

    assert of(tmp_path, change).rgb


def test_normalization_elsewhere_is_not_guessed(tmp_path):
    assert of(tmp_path, lambda cfg: cfg.pop('data_preprocessor')) is None
    theirs = save_torchvision(tmp_path / 'whole.pth').state_dict()
    torch.save({k: v for k, v in theirs.items() if 'fc' not in k}, tmp_path / 'weights.pth')
    cfg, level, notice = prepared(tmp_path / 'weights.pth')  # as Caffe's come
    assert level == logging.WARNING and 'does not say' in notice

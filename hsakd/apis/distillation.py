"""One call from a folder of images to a small network that was distilled."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine.config import Config

from hsakd.commands import typed
from hsakd.models.distillers import FeatureDistiller
from hsakd.models.distillers.phases import HintPhase
from hsakd.registry import MODELS
from hsakd.results.names import CONFIGS
from hsakd.results.runs import RECORD, Run, find_runs
from hsakd.results.tables import collect
from hsakd.utils.checkpoint import (
    checkpoint_weights,
    describe_mismatch,
    network_state_dict,
    read_checkpoint,
    trust_checkpoints,
)
from hsakd.utils.errors import CheckpointError, ConfigError
from hsakd.utils.files import write_files
from hsakd.utils.normalization import IMAGENET, Normalization, TrainedWith

from .classifier import load_classifier
from .inference import Prediction, find_images, predict
from .network_names import network_config, number_of_stages, with_branches
from .own_images import OwnImages, describe, look_at
from .plan import Plan
from .publishing import export_onnx, publish
from .report import make_report
from .training_runs import TrainingRun, train

#: Iterations of a training whose length is not given, and its bounds in epochs.
_ITERATIONS, _EPOCHS = 15_000, (20, 200)
#: Images up to this side are held in memory.
_IN_MEMORY = 64
#: By our names of configs, where the type in lower case is another.
_METHODS = {'hsakd': 'HSAKDOffline'}


@dataclass
class Distilled:
    """What :func:`distill` made.

    Attributes:
        student: The published student, which loads in plain mmpretrain.
        onnx: The same as an ONNX model.
        report: A page on what was gained.
        config: Of the distillation, which tools/train.py trains again.
        metrics: Accuracy on test images in percent, by 'student', 'plain' and 'teacher'.
    """

    student: Path
    onnx: Path
    report: Path
    config: Path
    metrics: dict[str, float] = field(default_factory=dict)

    def predict(self, images: str | Path) -> Sequence[Prediction]:
        """The best classes of an image, or of those of a folder."""
        return list(predict(load_classifier(self.student), find_images(images)))


def distill(
    data: str | Path,
    student: str = 'resnet18',
    teacher: str = 'resnet50',
    teacher_weights: str | Path | None = None,
    method: str = 'hsakd',
    image_size: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    out: str | Path = 'runs/distilled',
    baseline: bool = True,
    seed: int = 0,
    fast: bool = False,
    skip_bad_images: bool = False,
    trust_checkpoint: bool = False,
) -> Distilled:
    """Train a teacher and a student on a folder of images by class, and publish the student.

    OUT gets ordinary configs, which tools/train.py trains again, the work dirs of all trainings,
    the published student as .pth and .onnx, and report.html. Called again after an interruption it
    goes on.

    Args:
        data: A folder with a subfolder for each class, or with train/ and test/ (or val/) of such.
            Without these a fifth of each class is held out.
        student: Name of a network, see :func:`~hsakd.apis.network_names.network_config`.
        teacher: The same.
        teacher_weights: A file. Of a classifier of these very classes: it is the teacher, and stays
            as it is; for 'hsakd' its branches are trained. Of others: the teacher starts from it.
            One that names no classes is taken for these where it has as many, which is printed.
        method: 'hsakd', or one of one phase of docs/methods.md, such as 'kd' or 'dkd'.
        image_size: Side of the images that networks get, in pixels; by default 32 or 64 for images
            that are about as small, else 224.
        epochs: Of each training; by default what makes 15,000 iterations, 20 to 200.
        batch_size: By default 16, 32 or 64, by the number of images.
        out: Folder for everything.
        baseline: Train the student alone too, for comparison.
        seed: Of random numbers.
        fast: Compile networks; pays for trainings of more than a few minutes.
        skip_bad_images: Leave out and count images that cannot be decoded.
        trust_checkpoint: Execute the code in ``teacher_weights`` instead of refusing it.

    Raises:
        UserError: An argument or the data cannot be used, ``out`` has trainings of other images or
            settings, or a training failed.
    """
    out = Path(out)
    images = look_at(data, out, image_size)
    images.train['skip_bad_images'] = images.test['skip_bad_images'] = skip_bad_images
    print(describe(images), flush=True)
    weights = None if teacher_weights is None else Path(teacher_weights).expanduser()
    if weights and trust_checkpoint:
        weights = _without_code(weights, out)
    configs = _write_configs(
        images, student, teacher, weights, method, epochs, batch_size, out, seed, fast
    )
    plan = Plan([configs[-1]], None, out / 'work_dirs', (), baseline)
    print(
        f'{teacher} teaches {student} by {method}, {len(plan.runs)} trainings, epochs and batches '
        f'as in {configs[-1].stem}',
        flush=True,
    )
    for number, run in enumerate(plan.runs, 1):
        train(run, f'[{number}/{len(plan.runs)}] {run.config.stem}')
    return _results(plan, configs[-1], out)


def _write_configs(
    images: OwnImages,
    student: str,
    teacher: str,
    teacher_weights: Path | None,
    method: str,
    epochs: int | None,
    batch_size: int | None,
    out: Path,
    seed: int = 0,
    fast: bool = False,
) -> list[Path]:
    """Write the configs of all trainings, the distillation's last; see :func:`distill`."""
    kind = _kind_of(method)
    count = images.count[0]
    batch = batch_size or (64 if count >= 2000 else 32 if count >= 500 else 16)
    low, high = _EPOCHS
    epochs = epochs or min(high, max(low, round(_ITERATIONS * batch / count)))
    classes = len(images.classes)
    small = network_config(student, classes, images.size, 'student')
    large = network_config(teacher, classes, images.size, 'teacher')
    weights = _Weights.of(teacher_weights, teacher, large, images.classes, out)
    normalization = weights.normalization or Normalization(
        tuple(images.mean), tuple(images.std), True
    )
    schedule = f'1xb{batch}-{epochs}e_{images.name}'
    names = [text.rpartition('/')[2].replace('_', '-') for text in (teacher, student)]
    if names[0] == names[1] and (teacher != student or weights.path):  # another training
        names[0] += '-teacher'
    work_dirs = (out / 'work_dirs').resolve()

    def checkpoint(name: str) -> str:
        return str(work_dirs / f'{name}_{schedule}' / f'epoch_{epochs}.pth')

    configs = {names[1]: dict(model=small)}
    ready = str(weights.path) if weights.ready else None
    start = dict(load_from=str(weights.path)) if weights.path and not weights.ready else {}
    if method == 'hsakd':
        number = min(map(number_of_stages, (small, large)))
        rotation = dict(transforms=dict(type='Rotation'))
        small, large = (with_branches(n, number) | rotation for n in (small, large))
        model, stage = dict(large, type='HSAKDTeacher'), f'hsakd-teacher_{names[0]}'
        if ready:
            stage = f'hsakd-teacher-frozen_{names[0]}'
            model |= dict(frozen=True, backbone_ckpt=ready)
        configs[stage] = dict(model=model, **start)
        teacher_ckpt = checkpoint(stage)
    else:
        teacher_ckpt = ready or checkpoint(names[0])
        if not ready:
            configs[names[0]] = dict(model=large, **start)
    name = f'{"hsakd-offline" if method == "hsakd" else method}_{names[0]}_{names[1]}'
    model = dict(type=kind, student=small, teacher=large, teacher_ckpt=teacher_ckpt)
    if images.size != 32 and kind != 'HSAKDOffline':
        model['image_size'] = images.size
    configs[name] = dict(model=model)
    folder = out / 'configs'
    bases = dict(
        data=_data(images, normalization, batch),
        recipe=_recipe(batch, epochs, seed, fast),
    )
    files = {folder / f'_base_/{key}.py': Config(base).pretty_text for key, base in bases.items()}
    listed = "_base_ = ['_base_/data.py', '_base_/recipe.py']\n\n"
    for key, content in configs.items():
        text = listed + Config(content).pretty_text
        files[folder / f'{key}_{schedule}.py'] = text
    contents = {path: text.encode() for path, text in files.items()} | images.files
    if weights.path:
        contents[weights.path] = weights.source.read_bytes()
    others = [p for p, content in contents.items() if p.is_file() and _differ(p, content)]
    begun = any((out / 'work_dirs').glob('*/*.pth'))
    expected = 'the images and settings with which it was begun, or another folder'
    ConfigError.check(not (others and begun), f'out={str(out)!r}', expected, _differing(others))
    for record in (out / 'work_dirs').glob(f'*/{RECORD}') if others else ():
        record.unlink()  # of a training of other settings that came to nothing
    write_files(contents, force=True)
    return [path for path in files if path.parent == folder]


def _without_code(path: Path, out: Path) -> Path:
    """Write the weights of a file that is trusted to another, which needs no trust."""
    with trust_checkpoints():
        content = read_checkpoint(path, 'teacher_weights')
    meta = dict(dataset_meta=dict(classes=TrainedWith.of(content, str(path)).classes))
    out.mkdir(parents=True, exist_ok=True)
    plain = out / f'{path.stem}.plain.pth'
    torch.save(dict(state_dict=checkpoint_weights(content), meta=meta), plain)
    return plain


def _differ(file: Path, content: bytes) -> bool:
    """Whether a file has another content, but for what is done about bad images."""
    skipped = b'skip_bad_images=True', b'skip_bad_images=False'
    return file.read_bytes().replace(*skipped) != content.replace(*skipped)


def _differing(files: list[Path]) -> str:
    return f'others: {", ".join(path.name for path in files)} would change'


def _kind_of(method: str) -> str:
    """The type of a method by the name of its configs."""
    from hsakd.models import distillers

    known = {
        name.lower(): name
        for name in distillers.__all__
        if issubclass(kind := getattr(distillers, name), FeatureDistiller)
        and kind is not FeatureDistiller
        and not issubclass(kind, HintPhase)
        and name not in ('FT', 'SSKD')  # of two phases
    } | _METHODS
    expected = f'one of {", ".join(sorted(known))}'
    ConfigError.check(method in known, f'method={method!r}', expected, 'none of them')
    return known[method]


@dataclass
class _Weights:
    """What a teacher starts from.

    Attributes:
        path: Where a copy of the file is put, away from the configs that its folder may name;
            None without a file.
        ready: Whether it is this network, of these many classes.
        normalization: That it was trained with.
        source: The file itself.
    """

    path: Path | None = None
    ready: bool = False
    normalization: Normalization | None = None
    source: Path | None = None

    @classmethod
    def of(
        cls, path: Path | None, name: str, network: dict, classes: list[str], out: Path
    ) -> '_Weights':
        """Read a file for a network of some name.

        Raises:
            CheckpointError: It is broken, or its backbone does not fit.
        """
        if path is None:
            return cls()
        key = 'teacher_weights'
        where = f'{key}={str(path)!r}'
        content = read_checkpoint(path, key)
        wanted = MODELS.build(network).state_dict()
        weights = network_state_dict(content, path, key, wanted=wanted)
        needed = {k: v for k, v in wanted.items() if k.startswith('backbone.')}
        mismatch = describe_mismatch(needed, {k: weights[k] for k in needed if k in weights})
        expected = f'weights of the backbone of {name}'
        if network['backbone']['type'] == 'mmpretrain.ResNet_CIFAR':
            expected += (
                f", which for small images has a stem of 3x3; ImageNet's is torchvision/{name}"
            )
        CheckpointError.check(not mismatch, where, expected, mismatch)
        head, trained = weights.get('head.fc.weight'), TrainedWith.of(content, where)
        ready = head is not None and head.shape == wanted['head.fc.weight'].shape
        # With layers that the network lacks, such as a last norm of timm's, it was another one.
        ready &= all(name in wanted or name.startswith('branches.') for name in weights)
        ready &= not trained.classes or list(trained.classes) == classes
        if ready and not trained.classes:
            print(f'{where} names no classes: taken for those of the images, in their order')
        copied = out / f'teacher_weights{path.suffix}'
        return cls(copied.resolve(), ready, trained.normalization or IMAGENET, path)


def _data(images: OwnImages, normalization: Normalization, batch: int) -> dict:
    size, large = images.size, images.size > _IN_MEMORY
    resize = dict(type='mmpretrain.Resize', scale=(size, size), backend='pillow')
    if large:
        crop = [dict(type='mmpretrain.RandomResizedCrop', scale=size, backend='pillow')]
        shown = [
            dict(
                type='mmpretrain.ResizeEdge',
                scale=round(size * 8 / 7),
                edge='short',
                backend='pillow',
            ),
            dict(type='mmpretrain.CenterCrop', crop_size=size),
        ]
    else:
        crop = [resize, dict(type='mmpretrain.RandomCrop', crop_size=size, padding=size // 8)]
        shown = [resize]
    flip = dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal')
    load, pack = dict(type='LoadImage'), dict(type='mmpretrain.PackInputs')
    test = dict(
        batch_size=batch,
        num_workers=2,
        dataset=dict(images.test, pipeline=[load, *shown, pack], test_mode=True),
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    metrics = [dict(type='mmpretrain.Accuracy', topk=(1,))]
    metrics += [dict(type='BranchAccuracy'), dict(type='NetworkAccuracy')]
    return dict(
        in_memory=not large,
        data_preprocessor=dict(
            mean=list(normalization.mean), std=list(normalization.std), to_rgb=normalization.rgb
        ),
        train_dataloader=dict(
            batch_size=batch,
            num_workers=2,
            dataset=dict(images.train, pipeline=[load, *crop, flip, pack]),
            sampler=dict(type='DefaultSampler', shuffle=True),
        ),
        val_dataloader=test,
        val_evaluator=metrics,
        test_dataloader=test,
        test_evaluator=metrics,
    )


def _recipe(batch: int, epochs: int, seed: int, fast: bool) -> dict:
    runtime = Config.fromfile(str(CONFIGS / '_base_/default_runtime.py')).to_dict()
    runtime['randomness'] = dict(seed=seed)
    optimizer = dict(
        type='SGD', lr=0.05 * batch / 64, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    return dict(
        runtime,
        optim_wrapper=dict(optimizer=optimizer),
        param_scheduler=dict(
            type='CosineAnnealingLR', T_max=epochs, by_epoch=True, convert_to_iter_based=True
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        val_cfg=dict(),
        test_cfg=dict(),
        auto_scale_lr=dict(base_batch_size=batch),
        fast=fast,
    )


def _results(plan: Plan, config: Path, out: Path) -> Distilled:
    classifier = load_classifier(plan.students[0].checkpoint)
    onnx, _ = export_onnx(classifier)
    published = publish(classifier, out / config.stem.split('_')[-3], onnx, force=True)
    by_suffix = {path.suffix: path for path in published}
    runs, left_out = find_runs([str(out / 'work_dirs')])
    report = make_report(collect(runs, left_out, 'accuracy/top1'), config.stem)
    files = {out / 'report.html': report.page.encode(), out / 'curves.png': report.curves}
    write_files(files, force=True)
    named = dict(student=plan.students, plain=plan.baselines, teacher=plan.needed[-1:])
    metrics = {name: _accuracy(found[0]) for name, found in named.items() if found}
    print(
        *report.verdicts,
        f'  student  {by_suffix[".pth"]}, {by_suffix[".onnx"].name}',
        f'  report   {out / "report.html"}',
        f'  configs  {config.parent}',
        f'  next     {typed("predict")} IMAGES --model {by_suffix[".pth"]}',
        sep='\n',
        flush=True,
    )
    return Distilled(by_suffix['.pth'], by_suffix['.onnx'], out / 'report.html', config, metrics)


def _accuracy(run: TrainingRun) -> float:
    return Run.of(run.work_dir).metrics['accuracy/top1']

"""Inputs of the golden cases of offline methods: functions of 'method/case/name' alone."""

import hashlib

import numpy as np

#            batch, classes, student/teacher width, side of a feature map, projection width
DIMS = {
    'public': dict(B=8, C=10, S=16, T=32, H=8, P=12),
    'hidden': dict(B=6, C=7, S=12, T=20, H=6, P=10),
}


def rng(method, case, name):
    digest = hashlib.sha256(f'{method}/{case}/{name}'.encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], 'little')))


def draw(kind, g, shape, arg):
    if kind == 'logits':  # 2 * N(0, 1)
        return 2.0 * g.standard_normal(shape)
    if kind in ('feat', 'bias'):  # N(0, 1); a bias is 0.1 * N(0, 1)
        return g.standard_normal(shape) * (0.1 if kind == 'bias' else 1.0)
    if kind == 'weight':  # N(0, 1) / sqrt(fan in); fan in = product of all axes but the first
        return g.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    if kind == 'scale':  # weight of a batch norm: U(0.5, 1.5)
        return 0.5 + g.random(shape)
    if kind == 'unit':  # rows of length 1 (a memory bank)
        x = g.standard_normal(shape)
        return x / np.sqrt((x * x).sum(-1, keepdims=True))
    if kind == 'labels':  # arg = number of classes
        return g.integers(0, arg, shape)
    if kind == 'index':  # arg = upper bound (exclusive)
        return g.integers(0, arg, shape)
    if kind == 'distinct':  # arg = upper bound: different row numbers
        return g.permutation(arg)[: shape[0]]
    if (
        kind == 'near'
    ):  # 4 rows an image: N(0, 1) the same for all four, plus arg * N(0, 1) of each row
        base = np.repeat(g.standard_normal((shape[0] // 4, *shape[1:])), 4, axis=0)
        return base + arg * g.standard_normal(shape)
    if kind == 'pairs':  # arg = (classes, m): m equal labels next to each other, classes distinct
        return np.repeat(g.permutation(arg[0])[: shape[0] // arg[1]], arg[1])
    if kind == 'permutation':
        return g.permutation(shape[0])
    if kind == 'lam':  # one number in (0.2, 0.8)
        return np.float64(0.2 + 0.6 * g.random())
    if kind == 'prob':  # softmax of 2 * N(0, 1)
        z = np.exp(2.0 * g.standard_normal(shape))
        return z / z.sum(-1, keepdims=True)
    if kind == 'const':
        return np.asarray(arg)
    raise ValueError(kind)


def linear(name, out, inn, bias=True, learns=True):
    yield (f'{name}.weight', 'weight', (out, inn), None, learns)
    if bias:
        yield (f'{name}.bias', 'bias', (out,), None, learns)


def conv(name, out, inn, k, bias=True, learns=True):
    """A convolution: weight [out, in, k, k]. (`tconv`, a transposed one: [in, out, k, k].)"""
    yield (f'{name}.weight', 'weight', (out, inn, k, k), None, learns)
    if bias:
        yield (f'{name}.bias', 'bias', (out,), None, learns)


def tconv(name, inn, out, k, learns=True):
    yield (f'{name}.weight', 'weight', (inn, out, k, k), None, learns)
    yield (f'{name}.bias', 'bias', (out,), None, learns)


def norm(name, width):
    yield (f'{name}.weight', 'scale', (width,), None, True)
    yield (f'{name}.bias', 'bias', (width,), None, True)


def spec(method, case):
    """Rows (name, kind, shape, arg, learns?) in order."""
    d = DIMS[case]
    B, C, S, T, H, P = (d[k] for k in 'BCSTHP')
    pub = case == 'public'
    lab = ('labels', 'labels', (B,), C, False)
    z_s, z_t = (
        ('logits_s', 'logits', (B, C), None, True),
        ('logits_t', 'logits', (B, C), None, False),
    )
    e_s, e_t = ('emb_s', 'feat', (B, S), None, True), ('emb_t', 'feat', (B, T), None, False)
    feat = lambda name, ch, side, learns: (name, 'feat', (B, ch, side, side), None, learns)
    if method in ('kd', 'dist', 'dkd', 'kd_std', 'dkd_std'):
        epoch = (
            [('epoch', 'const', (), 13 if pub else 57, False)] if method.startswith('dkd') else []
        )
        return [lab, z_s, z_t, *epoch]
    if method == 'mlkd':
        return [
            lab,
            *[
                (f'logits_{n}_{v}', 'logits', (B, C), None, n == 's')
                for n in 'st'
                for v in ('weak', 'strong')
            ],
        ]
    if method.startswith('fitnet'):
        side_s, side_t = {
            'fitnet': (H, H),
            'fitnet_down': (H, H // 2),
            'fitnet_up': (H // 2, H),
            'fitnet_crop': (H, H - 2),
        }[method]
        rows = [feat('map_s', S, side_s, True), feat('map_t', T, side_t, False)]
        if method == 'fitnet_up':
            rows += tconv('reg.conv', S, T, 4)
        else:
            rows += conv('reg.conv', T, S, 3 if method == 'fitnet_down' else 1 + side_s - side_t)
        return [*rows, *norm('reg.bn', T)]
    if method in ('at', 'nst', 'vid'):
        sides = [(H, H), (H // 2, H), (H, H // 2), (H - 1, H), (H, H - 2)]
        sides = sides[:3] if method == 'vid' else sides
        rows = []
        for k, (a, b) in enumerate(sides):
            rows += [feat(f'map_s_{k}', S, a, True), feat(f'map_t_{k}', T, b, False)]
            if method == 'vid':
                for j, inn in enumerate((S, T, T)):
                    rows += conv(f'vid_{k}.conv_{j}', T, inn, 1, bias=False)
                rows += [(f'vid_{k}.log_scale', 'feat', (T,), None, True)]
        return rows
    if method == 'sp':
        return [feat('map_s', S, H, True), feat('map_t', T, H if pub else H // 2, False)]
    if method == 'cc':
        return [e_s, e_t, *linear('embed_s', P, S), *linear('embed_t', P, T)]
    if method in ('rkd', 'pkt'):
        return [e_s, e_t]
    if method == 'crd':
        n, k = (40, 9) if pub else (30, 5)
        rows = [
            *linear('embed_s', P, S),
            *linear('embed_t', P, T),
            ('memory_s', 'unit', (n, P), None, False),
            ('memory_t', 'unit', (n, P), None, False),
        ]
        for step in (1, 2):
            rows += [
                (f'emb_s_{step}', 'feat', (B, S), None, True),
                (f'emb_t_{step}', 'feat', (B, T), None, False),
                (f'own_{step}', 'distinct', (B,), n, False),
                (f'negatives_{step}', 'index', (B, k), n, False),
            ]
        return rows
    if method == 'sskd_teacher':
        return [
            ('emb_t', 'near', (4 * B, T), 2.0, False),
            *linear('head_t.0', T, T),
            *linear('head_t.1', T, T),
        ]
    if method == 'sskd':
        return [
            lab,
            ('logits_s', 'logits', (4 * B, C), None, True),
            ('logits_t', 'logits', (4 * B, C), None, False),
            ('emb_s', 'near', (4 * B, S), 1.5, True),
            ('emb_t', 'near', (4 * B, T), 1.0, False),
            *linear('head_s.0', S, S),
            *linear('head_s.1', S, S),
            *linear('head_t.0', T, T, learns=False),
            *linear('head_t.1', T, T, learns=False),
        ]
    if method == 'reviewkd':
        # levels from the shallowest to the pooled one: (student channels, student side, teacher channels, teacher side)
        levels = (
            [(8, 16, 12, 16), (12, 8, 16, 8), (16, 4, 20, 4), (16, 1, 20, 1)]
            if pub
            else [(6, 8, 9, 16), (10, 4, 11, 8), (14, 2, 13, 5), (12, 1, 13, 1)]
        )
        mid = levels[-1][0]
        rows = []
        for k, (cs, hs, ct, ht) in enumerate(levels):
            rows += [
                feat(f'map_s_{k}', cs, hs, True),
                feat(f'map_t_{k}', ct, ht, False),
                *conv(f'abf_{k}.conv1', mid, cs, 1, bias=False),
                *norm(f'abf_{k}.bn1', mid),
                *conv(f'abf_{k}.conv2', ct, mid, 3, bias=False),
                *norm(f'abf_{k}.bn2', ct),
            ]
            if k < len(levels) - 1:
                rows += conv(f'abf_{k}.att', 2, 2 * mid, 1)
        return rows
    if method == 'ab':
        rows = [
            feat('map_s_0', S, H, True),
            feat('map_t_0', S, H, False),
        ]  # same shape: no connector
        rows += [
            feat('map_s_1', S, H, True),
            feat('map_t_1', T, H, False),
            *conv('con_1.conv', T, S, 1),
            *norm('con_1.bn', T),
        ]
        return rows + [
            feat('map_s_2', S, H, True),
            feat('map_t_2', T, H // 2, False),
            *conv('con_2.conv', T, S, 3),
            *norm('con_2.bn', T),
        ]
    if method in ('ft', 'ft_paraphraser'):
        t, s = T // 2, S // 2
        phase1 = method == 'ft_paraphraser'
        f = t // 2  # factor channels: half the teacher's
        rows = [feat('map_t', t, H, False)]
        for j, (out, inn) in enumerate(((t, t), (f, t), (f, f))):
            rows += conv(f'para.enc_{j}', out, inn, 3, learns=phase1)
        if phase1:
            for j, (inn, out) in enumerate(((f, f), (f, t), (t, t))):
                rows += tconv(f'para.dec_{j}', inn, out, 3)
            return rows
        rows += [feat('map_s', s, H if pub else H // 2, True)]
        for j, (out, inn) in enumerate(((s, s), (f, s), (f, f))):
            rows += [*conv(f'trans.conv_{j}', out, inn, 3), *norm(f'trans.bn_{j}', out)]
        return rows
    if method == 'fsp':
        sides = (H, H, H // 2)
        chans = (S // 2, S, T // 2)
        return [
            r
            for k in range(3)
            for r in (
                feat(f'map_s_{k}', chans[k], sides[k], True),
                feat(f'map_t_{k}', chans[k], sides[k], False),
            )
        ]
    if method == 'simkd':
        f = T // 2
        return [
            lab,
            feat('map_s', S, H if pub else H // 2, True),
            feat('map_t', T, H // 2 if pub else H, False),
            *conv('trans.conv_0', f, S, 1, bias=False),
            *norm('trans.bn_0', f),
            *conv('trans.conv_1', f, f, 3, bias=False),
            *norm('trans.bn_1', f),
            *conv('trans.conv_2', T, f, 1, bias=False),
            *norm('trans.bn_2', T),
            *linear('teacher_fc', C, T, learns=False),
        ]
    if method == 'srrl':
        return [
            e_s,
            e_t,
            ('logits_t', 'logits', (B, C), None, False),
            *conv('trans.conv', T, S, 1, bias=False),
            *norm('trans.bn', T),
            *linear('teacher_fc', C, T, learns=False),
        ]
    if method == 'ofd':
        rows = []
        for k, (a, b) in enumerate(((H, H), (H // 2, H))):
            rows += [
                feat(f'map_s_{k}', S, a, True),
                feat(f'map_t_{k}', T, b, False),
                *conv(f'con_{k}.conv', T, S, 1, bias=False),
                *norm(f'con_{k}.bn', T),
                (f'teacher_bn_{k}.weight', 'scale', (T,), None, False),
                (f'teacher_bn_{k}.bias', 'feat', (T,), None, False),
            ]
        return rows
    raise ValueError(method)


def make(method, case):
    return {
        name: draw(kind, rng(method, case, name), shape, arg)
        for name, kind, shape, arg, _ in spec(method, case)
    }


def learning(method, case):
    return [name for name, _, _, _, learns in spec(method, case) if learns]

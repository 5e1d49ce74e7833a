"""Inputs of the golden cases of online methods: functions of 'method/case/name' alone."""

from tests.method_inputs import draw, linear, norm, rng

#            batch, classes, feature width, networks or branches, side of a map, projection width
DIMS = {
    'public': dict(B=8, C=10, D=16, M=4, H=4, P=12),
    'hidden': dict(B=6, C=7, D=24, M=3, H=6, P=10),
}


def spec(method, case):
    """Rows (name, kind, shape, arg, learns?) in order."""
    d = DIMS[case]
    B, C, D, M, H, P = (d[k] for k in 'BCDMHP')
    pub = case == 'public'
    lab = ('labels', 'labels', (B,), C, False)

    def log(n, b=B):
        return [(f'logits_{i}', 'logits', (b, C), None, True) for i in range(n)]

    epoch = (
        'epoch',
        'const',
        (),
        17 if pub else 120 if method in ('ffl', 'okddip_eps') else 53,
        False,
    )
    if method in ('dml', 'dml_pernet', 'dml_ensfirst', 'dks'):
        return [lab, *log(M)]
    if method == 'kdcl':
        return [lab, *log(2 if pub else 3)]
    if method == 'cl_ilr':
        rows = [lab, ('trunk', 'feat', (B, D), None, True)]
        for j in range((M + 1) // 2):
            rows += linear(f'mid_{j}', D, D, bias=False)
        for i in range(M):
            rows += linear(f'classifier_{i}', C, D)
        return rows
    if method == 'one':
        rows = [lab, ('trunk', 'feat', (B, D // 2, H, H), None, True)]
        for i in range(M):
            rows += [(f'emb_{i}', 'feat', (B, D), None, True), *linear(f'classifier_{i}', C, D)]
        return rows + [*linear('gate', M, D // 2), *norm('gate_norm', M)]
    if method == 'one_rampup':
        return [lab, *log(3), ('logits_t', 'logits', (B, C), None, True), epoch]
    if method in ('okddip', 'okddip_eps'):
        rows = [lab, epoch]
        for i in range(M):
            rows += [(f'emb_{i}', 'feat', (B, D), None, True), *linear(f'classifier_{i}', C, D)]
        return rows + [*linear('query', D // 8, D, False), *linear('key', D // 8, D, False)]
    if method == 'ffl':
        rows = [
            lab,
            epoch,
            *log(2),
            *[(f'map_{i}', 'feat', (B, D, H, H), None, True) for i in range(2)],
        ]
        rows += [
            ('depthwise.weight', 'weight', (2 * D, 1, 3, 3), None, True),
            *norm('norm_a', 2 * D),
            ('pointwise.weight', 'weight', (D, 2 * D, 1, 1), None, True),
            *norm('norm_b', D),
        ]
        return rows + [*linear('classifier', C, D)]
    if method == 'pcl':
        rows = [lab, ('ramp', 'const', (), 0.37 if pub else 0.81, False)]
        for i in range(3):
            rows += [(f'emb_{i}', 'feat', (B, D), None, True), *linear(f'classifier_{i}', C, D)]
        rows += [*linear('ensemble', C, 3 * D)]
        rows += [(f'mean_logits_{i}', 'logits', (B, C), None, False) for i in range(3)]
        return rows + [
            ('step', 'const', (), 4 if pub else 5000, False),
            ('ema', 'feat', (D,), None, False),
            ('param', 'feat', (D,), None, False),
        ]
    if method == 'mcl':
        n = 2 if pub else 3
        rows = [('labels', 'pairs', (B,), (C, 2 if pub else 3), False), *log(n)]
        for i in range(n):
            rows += [
                (f'emb_{i}', 'feat', (B, D), None, True),
                *linear(f'head_{i}.0', P, D),
                *linear(f'head_{i}.1', P, P),
            ]
        return rows
    if method == 'mcl_memory':
        n, rows_in_memory, pos, neg = (2, 40, 1, 9) if pub else (3, 30, 2, 7)
        rows = [
            ('own', 'distinct', (B,), rows_in_memory, False),
            ('positives', 'index', (B, pos), rows_in_memory, False),
            ('negatives', 'index', (B, neg), rows_in_memory, False),
        ]
        for i in range(n):
            rows += [
                (f'memory_{i}', 'unit', (rows_in_memory, P), None, False),
                (f'emb_{i}', 'feat', (B, D), None, True),
                *linear(f'head_{i}.0', P, D),
                *linear(f'head_{i}.1', P, P),
            ]
        return rows
    if method in ('l_mcl', 'l_mcl_meta'):
        stages = 3 if pub else 2
        meta = method == 'l_mcl_meta'
        rows = [('labels', 'pairs', (B,), (C, 2 if pub else 3), False)]
        for i in range(2):
            for s in range(stages):
                rows += [(f'emb_{i}_{s}', 'feat', (B, D), None, not meta)]
                rows += [
                    r[:4] + (not meta,)
                    for r in (
                        *linear(f'classifier_{i}_{s}', C, D),
                        *linear(f'head_{i}_{s}.0', P, D),
                        *linear(f'head_{i}_{s}.1', P, P),
                    )
                ]
                rows += [r[:4] + (meta,) for r in linear(f'weight_{i}_{s}', 128, D)]
            if not meta:
                rows += [*linear(f'gate_{i}.0', D, stages * D), *linear(f'gate_{i}.1', stages, D)]
        return rows
    if method == 'mcl_okd':
        n, n_data, k = (3, 40, 9) if pub else (2, 30, 5)
        rows = [
            lab,
            *log(n),
            ('own', 'distinct', (B,), n_data, False),
            ('negatives', 'index', (B, k), n_data, False),
        ]
        for i in range(n):
            rows += [
                (f'memory_{i}', 'unit', (n_data, P), None, False),
                (f'emb_{i}', 'feat', (B, D), None, True),
                *linear(f'head_{i}', P, D),
            ]
        return rows
    if method == 'mixskd':
        rows = [
            lab,
            ('lam', 'lam', (), None, False),
            ('index', 'permutation', (B,), None, False),
            *log(4, 2 * B),
        ]
        rows += [(f'map_{i}', 'feat', (2 * B, D, H // 2, H // 2), None, True) for i in range(4)]
        rows += [
            ('teacher.conv.weight', 'weight', (D, 4 * D, 1, 1), None, True),
            *linear('teacher.fc', C, D),
        ]
        for i in range(4):
            rows += [*linear(f'critic_{i}.0', 128, D), *linear(f'critic_{i}.1', 2, 128)]
        return rows
    if method == 'byot':
        n = 3 if pub else 4
        return [
            lab,
            *log(n),
            *[(f'map_{i}', 'feat', (B, D // 2, H, H), None, True) for i in range(n)],
        ]
    if method == 'byot_journal':
        rows = [lab, *log(4), *[(f'emb_{i}', 'feat', (B, D), None, True) for i in range(4)]]
        for i in range(1, 4):
            rows += [*linear(f'adapt_{i}', D, D)]
        return rows
    if method == 'cs_kd':
        return [
            lab,
            ('logits', 'logits', (B, C), None, True),
            ('logits_pair', 'logits', (B, C), None, False),
        ]
    if method == 'ddgsd':
        return [lab, *log(2), *[(f'emb_{i}', 'feat', (B, D), None, True) for i in range(2)]]
    if method == 'ps_kd':
        return [
            lab,
            ('epoch', 'const', (), 17 if pub else 53, False),
            ('epochs', 'const', (), 300 if pub else 200, False),
            ('logits', 'logits', (B, C), None, True),
            ('rows', 'distinct', (B,), 3 * B, False),
            ('memory', 'prob', (3 * B, C), None, False),
        ]
    if method in ('label_smooth', 'tf_kd_reg', 'tf_kd_reg_lib'):
        return [lab, ('logits', 'logits', (B, C), None, True)]
    if method == 'tf_kd_self':
        return [
            lab,
            ('logits', 'logits', (B, C), None, True),
            ('logits_teacher', 'logits', (B, C), None, False),
        ]
    if method == 'frskd':
        rows = [
            lab,
            ('logits', 'logits', (B, C), None, True),
            ('logits_teacher', 'logits', (B, C), None, True),
        ]
        for i in range(3):
            rows += [
                (f'map_{i}', 'feat', (B, D // 4, H, H), None, True),
                (f'map_teacher_{i}', 'feat', (B, D // 2, H, H), None, True),
            ]
        return rows
    if method == 'sad':
        return [
            lab,
            ('logits', 'logits', (B, C), None, True),
            *[
                (f'map_{i}', 'feat', (B, D // 4 * (i + 1), H * 2 >> i, H * 2 >> i), None, True)
                for i in range(3)
            ],
        ]
    if method == 'bake':
        return [
            lab,
            ('logits', 'logits', (B, C), None, True),
            ('embedding', 'feat', (B, D), None, True),
        ]
    raise ValueError(method)


def make(method, case):
    return {
        name: draw(kind, rng(method, case, name), shape, arg)
        for name, kind, shape, arg, _ in spec(method, case)
    }


def learning(method, case):
    return [name for name, _, _, _, learns in spec(method, case) if learns]

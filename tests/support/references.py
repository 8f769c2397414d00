"""Slow definitions, written as loops over numbers, to hold the fast ones against."""

import math

import torch


def unit(v):
    length = math.sqrt(sum(float(x) ** 2 for x in v))
    return [float(x) / length for x in v]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def distance_squared(a, b):
    a, b = unit(a), unit(b)
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def alignment(z1, z2):
    return mean(distance_squared(a, b) for a, b in zip(z1, z2, strict=True))


def uniformity(z, t):
    n = len(z)
    return math.log(mean(math.exp(-t * distance_squared(z[i], z[j])) for i in range(n) for j in range(n) if i != j))


def cross_model(p1, p2, t1, t2):
    return (alignment(p1, t1) + alignment(p2, t2)) / 2


def across_crops(loss, predictions, targets):
    """Twice the mean over every target of a view and every crop that is not this view."""
    values = []
    for i, target in enumerate(targets):
        for j, prediction in enumerate(predictions):
            if j != i:
                values.append(loss(prediction, target))
    return 2 * sum(values) / len(values)


def byol(p1, p2, t1, t2):
    one = mean(2 - 2 * dot(unit(p), unit(t)) for p, t in zip(p1, t2, strict=True))
    other = mean(2 - 2 * dot(unit(p), unit(t)) for p, t in zip(p2, t1, strict=True))
    return one + other


def simsiam(p1, p2, z1, z2):
    one = mean(-dot(unit(p), unit(z)) for p, z in zip(p1, z2, strict=True))
    other = mean(-dot(unit(p), unit(z)) for p, z in zip(p2, z1, strict=True))
    return one / 2 + other / 2


def isoloss(z, p, t):
    """The value is BYOL's; what is IsoLoss's own is the gradient."""
    return alignment(p, t)


def tangential(p, t):
    total = []
    for a, b in zip(p, t, strict=True):
        a, b = unit(a), unit(b)
        scale = dot(a, b)
        total.append(sum((y - scale * x) ** 2 for x, y in zip(a, b, strict=True)) / scale)
    return mean(total)


def info_nce(query, key, negatives, temperature):
    losses = []
    for q, k in zip(query, key, strict=True):
        positive = math.exp(dot(unit(q), unit(k)) / temperature)
        others = sum(math.exp(dot(unit(q), unit(n)) / temperature) for n in negatives)
        losses.append(-math.log(positive / (positive + others)))
    return mean(losses)


def nt_xent(z1, z2, temperature):
    z = [*z1, *z2]
    n = len(z1)
    losses = []
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        similarity = [math.exp(dot(unit(z[i]), unit(z[j])) / temperature) for j in range(2 * n)]
        losses.append(-math.log(similarity[partner] / (sum(similarity) - similarity[i])))
    return mean(losses)


def positive_negative_cosine(z, t):
    n = len(z)
    cos = [[dot(unit(a), unit(b)) for b in t] for a in z]
    return mean(cos[i][i] for i in range(n)), mean(cos[i][j] for i in range(n) for j in range(n) if i != j)


def effective_rank(z):
    rows = torch.tensor([unit(v) for v in z], dtype=torch.float64)
    values = torch.linalg.svdvals(rows)
    shares = [float(v / values.sum()) for v in values]
    return math.exp(-sum(s * math.log(s) for s in shares if s > 1e-12))


def feature_std(z):
    rows = [unit(v) for v in z]
    d, n = len(rows[0]), len(rows)
    stds = []
    for j in range(d):
        column = [row[j] for row in rows]
        centre = sum(column) / n
        stds.append(math.sqrt(sum((x - centre) ** 2 for x in column) / n))
    return mean(stds) * math.sqrt(d)


def nnclr(neighbours1, neighbours2, p1, p2, temperature):
    losses = []
    for neighbours, predictions in ((neighbours1, p2), (neighbours2, p1)):
        for i, neighbour in enumerate(neighbours):
            similarity = [math.exp(dot(unit(neighbour), unit(p)) / temperature) for p in predictions]
            losses.append(-math.log(similarity[i] / sum(similarity)))
    return mean(losses)


def columns(z):
    """The dimensions of embeddings, as lists of numbers without their mean."""
    found = [[float(row[j]) for row in z] for j in range(len(z[0]))]
    return [[x - mean(column) for x in column] for column in found]


def barlow_twins(z1, z2, off_diagonal):
    n, total = len(z1), 0.0
    for i, a in enumerate(columns(z1)):
        for j, b in enumerate(columns(z2)):
            correlation = dot(a, b) / n / math.sqrt(dot(a, a) / n + 1e-5) / math.sqrt(dot(b, b) / n + 1e-5)
            total += (1 - correlation) ** 2 if i == j else off_diagonal * correlation**2
    return total


def variance_hinge(z, eps=1e-4):
    return mean(max(0.0, 1 - math.sqrt(dot(c, c) / (len(z) - 1) + eps)) for c in columns(z))


def covariance_penalty(z):
    parts = columns(z)
    covariances = [dot(a, b) / (len(z) - 1) for i, a in enumerate(parts) for j, b in enumerate(parts) if i != j]
    return sum(c**2 for c in covariances) / len(parts)


def vicreg(z1, z2, invariance, variance, covariance):
    distance = mean(mean(float(x - y) ** 2 for x, y in zip(a, b, strict=True)) for a, b in zip(z1, z2, strict=True))
    hinge = mean(variance_hinge(z) for z in (z1, z2))
    return invariance * distance + variance * hinge + covariance * sum(covariance_penalty(z) for z in (z1, z2))


def sinkhorn(scores, epsilon, iterations):
    """SwAV's code: prototypes as rows, their sums first, then those of the pictures; `scores` are `[n k]`."""
    n, k = len(scores), len(scores[0])
    q = [[math.exp(float(scores[i][j]) / epsilon) for i in range(n)] for j in range(k)]
    total = sum(map(sum, q))
    q = [[value / total for value in row] for row in q]
    for _ in range(iterations):
        q = [[value / sum(row) / k for value in row] for row in q]
        sums = [sum(q[j][i] for j in range(k)) for i in range(n)]
        q = [[q[j][i] / sums[i] / n for i in range(n)] for j in range(k)]
    return [[n * q[j][i] for j in range(k)] for i in range(n)]


def softmax(values):
    powers = [math.exp(float(v)) for v in values]
    return [power / sum(powers) for power in powers]


def swav(scores, assignment, temperature):
    losses = []
    for row, q in zip(scores, assignment, strict=True):
        p = softmax([float(s) / temperature for s in row])
        losses.append(-sum(float(a) * math.log(b) for a, b in zip(q, p, strict=True)))
    return mean(losses)


def dino(student, teacher, center, temperature, teacher_temperature):
    """DINO, Algorithm 1: H(t, s) of one pair of crops."""
    targets = [
        softmax([(float(t) - float(c)) / teacher_temperature for t, c in zip(row, center, strict=True)])
        for row in teacher
    ]
    return swav(student, targets, temperature)


def centre_distance(z, views):
    """Mean over crops, pictures and dimensions of the squared difference from the mean of a picture's views."""
    values = []
    for crop in z:
        for i, row in enumerate(crop):
            for j, x in enumerate(row):
                centre = mean(float(z[v][i][j]) for v in range(views))
                values.append((float(x) - centre) ** 2)
    return mean(values)


def sigreg(z, directions):
    """n times Epps and Pulley's statistic on 17 points of [0, 3], doubled, by the trapezoidal rule."""
    statistics = []
    for a in directions:
        slices = [dot(unit(a), [float(x) for x in row]) for row in z]
        heights = []
        for k in range(17):
            t = 3 * k / 16
            normal = math.exp(-(t**2) / 2)
            real, imaginary = mean(math.cos(t * s) for s in slices), mean(math.sin(t * s) for s in slices)
            heights.append(normal * ((real - normal) ** 2 + imaginary**2))
        area = sum(3 / 16 * (heights[k] + heights[k + 1]) / 2 for k in range(16))
        statistics.append(2 * area)
    return len(z) * mean(statistics)


def raw_columns(z):
    return [[float(row[j]) for row in z] for j in range(len(z[0]))]


def deviation(column):
    centre = mean(column)
    return math.sqrt(mean((x - centre) ** 2 for x in column))


def visreg_scale(z):
    return mean((1 - deviation(column)) ** 2 for column in raw_columns(z))


def visreg_mean(z):
    return mean(mean(column) ** 2 for column in raw_columns(z))


def visreg_shape(z, directions):
    from statistics import NormalDist

    n = len(z)
    standard = [[(x - mean(c)) / (deviation(c) + 1e-4) for x in c] for c in raw_columns(z)]
    rows = [[column[i] for column in standard] for i in range(n)]
    values = []
    for a in directions:
        slices = sorted(dot(unit(a), row) for row in rows)
        values += [(s - NormalDist().inv_cdf((i + 1) / (n + 1))) ** 2 for i, s in enumerate(slices)]
    return mean(values)


def whiten(z, whitening, epsilon):
    """Cholesky's factor by its recursion, and forward substitution, number by number."""
    n, d = len(z), len(z[0])
    centred = [[x - mean(column) for x in column] for column in raw_columns(z)]
    cov = [[sum(a * b for a, b in zip(p, q, strict=True)) / (n - 1) for q in centred] for p in centred]
    if whitening == "standardize":
        return [[centred[j][i] / math.sqrt(cov[j][j] + 1e-5) for j in range(d)] for i in range(n)]
    cov = [[(1 - epsilon) * cov[i][j] + epsilon * (i == j) for j in range(d)] for i in range(d)]
    factor = [[0.0] * d for _ in range(d)]
    for i in range(d):
        for j in range(i + 1):
            rest = cov[i][j] - sum(factor[i][k] * factor[j][k] for k in range(j))
            factor[i][j] = math.sqrt(rest) if i == j else rest / factor[j][j]
    rows = []
    for r in range(n):
        row = []
        for i in range(d):
            row.append((centred[i][r] - sum(factor[i][k] * row[k] for k in range(i))) / factor[i][i])
        rows.append(row)
    return rows


def w_mse(z1, z2, orders, size, whitening="cholesky", epsilon=0.0):
    values = []
    for order in orders:
        for start in range(0, len(z1), size):
            rows = order[start : start + size]
            one, other = (whiten([z[i] for i in rows], whitening, epsilon) for z in (z1, z2))
            values += [distance_squared(a, b) for a, b in zip(one, other, strict=True)]
    return mean(values)

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

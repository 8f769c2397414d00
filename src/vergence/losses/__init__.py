"""The page of equations: every loss as a pure function of raw embeddings, normalized inside.

Embeddings are `[b d]`, one row a picture; arguments numbered 1 and 2 belong to the two views. z is a projection, p a
prediction, `_target` marks the target network's. The squared distance of unit vectors is written 2 - 2 cos everywhere:
changing the sign of both vectors then changes no bit of it, which is what Theorem 5.1 of the RAFT paper rests on.

Every function refuses embeddings that do not fit together, and computes in float32 what is given in half precision,
under `torch.autocast` too: the value is float32, or float64 where an argument is.

Sources: "RAFT" is Run Away From your Teacher (arXiv 2011.10944), "SimCLR" arXiv 2002.05709, "MoCo" arXiv 1911.05722,
"BYOL" arXiv 2006.07733, "Wang & Isola" arXiv 2005.10242, "SimSiam" arXiv 2011.10566, "IsoLoss" arXiv 2212.04858,
"Barlow Twins" arXiv 2103.03230, "VICReg" arXiv 2105.04906, "LeJEPA" arXiv 2511.08544, "VISReg" arXiv 2606.02572,
"W-MSE" arXiv 2007.06346, "SwAV" arXiv 2006.09882, "DINO" arXiv 2104.14294, "NNCLR" arXiv 2104.14548.
"""

from vergence.losses.agreement import (
    Distance,
    across_crops,
    alignment,
    byol,
    byol_prime,
    cross_model,
    isoloss,
    raft,
    simsiam,
    squared_distance,
    tangential,
)
from vergence.losses.contrast import info_nce, nnclr, nt_xent, uniformity
from vergence.losses.embeddings import normalize, of_embeddings
from vergence.losses.prototypes import dino, sharpened, sinkhorn, swav
from vergence.losses.spread import (
    Whitening,
    barlow_twins,
    barlow_twins_terms,
    centre_distance,
    covariance_penalty,
    sigreg,
    variance_hinge,
    vicreg,
    visreg,
    visreg_mean,
    visreg_scale,
    visreg_shape,
    w_mse,
    whiten,
)

__all__ = [
    "Distance",
    "Whitening",
    "across_crops",
    "alignment",
    "barlow_twins",
    "barlow_twins_terms",
    "byol",
    "byol_prime",
    "centre_distance",
    "covariance_penalty",
    "cross_model",
    "dino",
    "info_nce",
    "isoloss",
    "nnclr",
    "normalize",
    "nt_xent",
    "of_embeddings",
    "raft",
    "sharpened",
    "sigreg",
    "simsiam",
    "sinkhorn",
    "squared_distance",
    "swav",
    "tangential",
    "uniformity",
    "variance_hinge",
    "vicreg",
    "visreg",
    "visreg_mean",
    "visreg_scale",
    "visreg_shape",
    "w_mse",
    "whiten",
]

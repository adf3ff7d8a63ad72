"""The released code's coarse mask of an 8-bit map: 256 x 256 pixels, KMeans(n_clusters=2, random_state=10) of scikit-learn
1.0.2, the components of the largest area.

Later versions of scikit-learn draw other starts, so k-means++ is 1.0.2's, by its formulas; the iterations (Elkan's, tolerance
1e-4) are the installed library's."""
import cv2
import numpy as np
from sklearn.cluster import KMeans


def squared_norms(x):
    return np.einsum("ij,ij->i", x, x)


def distances(a, b, b_norms):
    """euclidean_distances(a, b, Y_norm_squared=b_norms, squared=True)"""
    return np.maximum(-2 * a @ b.T + squared_norms(a)[:, None] + b_norms[None], 0)


def two_means(grey):
    """fit_predict of grey / 255 -> the upper cluster's pixels"""
    given = (grey / 255).reshape(-1, 1)
    x = given - given.mean(axis=0)
    norms = squared_norms(x)
    state, best = np.random.RandomState(10), None
    for _ in range(10):
        first = state.randint(len(x))
        near = distances(x[first, None], x, norms)
        ids = np.searchsorted(np.cumsum(near), state.random_sample(2) * near.sum())
        left = np.minimum(near, distances(x[np.minimum(ids, len(x) - 1)], x, norms)).sum(axis=1)
        k = KMeans(2, init=given[[first, ids[np.argmin(left)]]], n_init=1, algorithm="elkan").fit(given)
        if best is None or (k.inertia_ < best.inertia_ and (k.labels_ != best.labels_).any()
                            and (k.labels_ == best.labels_).any()):
            best = k
    return (best.labels_ != np.argmin(best.cluster_centers_.ravel())).reshape(grey.shape)


def upper_cluster(grey):
    """grey (H,W) -> the upper cluster at the map's size, 0 and 255, and the reduced levels."""
    height, width = grey.shape
    small = np.rint(cv2.resize(grey / 255, (256, 256), interpolation=cv2.INTER_NEAREST) * 255).astype(np.uint8)
    upper = two_means(small)
    mask = cv2.resize(np.where(upper, 1, 0).astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST)
    return mask.astype(np.uint8) * 255, small, upper


def largest_components(mask):
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return np.isin(labels, 1 + np.flatnonzero(areas == areas.max())) if len(areas) else mask > 0


def postprocess(grey):
    return largest_components(upper_cluster(grey)[0]).astype(np.uint8) * 255

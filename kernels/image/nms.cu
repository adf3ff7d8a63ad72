/* Non-maximum suppression: boxes are ranked by counting the boxes with a higher score; a bit matrix holds the later
 * boxes that each box suppresses; one block then scans it in order of score, 32 boxes at a time. */
#include "kernels/common/chunks.cuh"
#include "kernels/image/masks.h"

constexpr int THREADS = 256, WORD = 32, MOST_WORDS = K_NMS_MOST / WORD;

struct sorted_box {
    float x0, y0, x1, y1, area;
    int group, index;
};

static DEV_INLINE float score_at(const float *scores, int i)
{
    return scores[i] == scores[i] ? scores[i] : -INFINITY;
}

static __global__ void __launch_bounds__(THREADS) nms_sort(struct k_nms a, struct sorted_box *sorted)
{
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (i >= a.n) return;
    const float score = score_at(a.scores, i);
    int before = 0;
    for (int j = 0; j < a.n; j++) {
        const float other = score_at(a.scores, j);
        if (other > score || (other == score && j < i)) before++;
    }
    struct sorted_box b = {a.boxes[4 * (int64_t)i],
                           a.boxes[4 * (int64_t)i + 1],
                           a.boxes[4 * (int64_t)i + 2],
                           a.boxes[4 * (int64_t)i + 3],
                           0,
                           a.group ? a.group[i] : 0,
                           i};
    b.area = (b.x1 - b.x0) * (b.y1 - b.y0);
    sorted[before] = b;
}

static DEV_INLINE bool suppresses(const struct sorted_box &a, const struct sorted_box &b, float threshold)
{
    const float w = fmaxf(fminf(a.x1, b.x1) - fmaxf(a.x0, b.x0), 0.0f);
    const float h = fmaxf(fminf(a.y1, b.y1) - fmaxf(a.y0, b.y0), 0.0f), both = w * h;
    return a.group == b.group && both / (a.area + b.area - both) > threshold;
}

/* bits (n, words): bit b of word w in row i is set if box i suppresses the later box 32 w + b. */
static __global__ void __launch_bounds__(THREADS)
    nms_bits(const struct sorted_box *sorted, int n, int words, float threshold, unsigned *bits)
{
    const int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= (int64_t)n * words) return;
    const int i = (int)(at / words), w = (int)(at % words);
    unsigned word = 0;
    const int first = w * WORD > i ? w * WORD : i + 1, last = w * WORD + WORD < n ? w * WORD + WORD : n;
    const struct sorted_box mine = sorted[i];
    for (int j = first; j < last; j++)
        if (suppresses(mine, sorted[j], threshold)) word |= 1u << (j - w * WORD);
    bits[at] = word;
}

/* keep, n_keep from the bit matrix. One block. */
static __global__ void __launch_bounds__(THREADS)
    nms_walk(const struct sorted_box *sorted, int n, int words, const unsigned *bits, int32_t *keep, int32_t *n_keep)
{
    SHARED_ARRAY(unsigned, removed, [MOST_WORDS]);
    SHARED_ARRAY(unsigned, stay, [1]);
    int kept = 0;
    for (int w = (int)threadIdx.x; w < MOST_WORDS; w += THREADS) removed[w] = 0;
    for (int w = 0; w < words; w++) {
        if (threadIdx.x == 0) {
            unsigned alive = ~removed[w];
            for (int b = 0; b < WORD; b++) {
                const int i = w * WORD + b;
                if (i >= n || !(alive >> b & 1)) continue;
                alive &= ~bits[(int64_t)i * words + w];
                keep[kept++] = sorted[i].index;
            }
            stay[0] = alive;
        }
        DEV_SYNC();
        const unsigned alive = stay[0];
        for (int v = w + 1 + (int)threadIdx.x; v < words; v += THREADS) {
            unsigned gone = removed[v];
            for (int b = 0; b < WORD; b++)
                if (alive >> b & 1)
                    gone |=
                        bits[((int64_t)w * WORD + b) * words + v]; /* only for v > w, so rows of word w are complete */
            removed[v] = gone;
        }
        DEV_SYNC();
    }
    if (threadIdx.x == 0) *n_keep = kept;
}

static int words_of(int n)
{
    return (n + WORD - 1) / WORD;
}

size_t k_nms_bytes(int n)
{
    return (size_t)n * (sizeof(struct sorted_box) + (size_t)words_of(n) * sizeof(unsigned));
}

cudaError_t k_nms_run(const struct k_nms *a, cudaStream_t s)
{
    const int words = words_of(a->n);
    struct sorted_box *sorted = (struct sorted_box *)a->workspace;
    unsigned *bits = (unsigned *)(sorted + a->n);
    if (a->n > K_NMS_MOST) return cudaErrorInvalidValue;
    if (!a->n) return a->n_keep ? cudaMemsetAsync(a->n_keep, 0, sizeof *a->n_keep, s) : cudaSuccess;
    cudaError_t e = dev_launch(nms_sort, blocks_of(a->n, THREADS), THREADS, 0, s, *a, sorted);
    if (e == cudaSuccess)
        e = dev_launch(nms_bits, blocks_of((int64_t)a->n * words, THREADS), THREADS, 0, s,
                       (const struct sorted_box *)sorted, a->n, words, a->threshold, bits);
    if (e != cudaSuccess) return e;
    return dev_launch(nms_walk, 1, THREADS, 0, s, (const struct sorted_box *)sorted, a->n, words,
                      (const unsigned *)bits, a->keep, a->n_keep);
}

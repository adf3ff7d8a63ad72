#include "data/image/window.h"

#include "engine/base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct window used; /* --window */

/* ---- option ---- */

/* A number, and "%" behind it or not; returns what follows it, or NULL. */
static const char *read_end(const char *text, double *number, int *percent)
{
    char *end;
    *number = strtod(text, &end);
    if (end == text || !isfinite(*number)) return NULL;
    *percent = *end == '%';
    return end + *percent;
}

enum mcs_status mcs_window_parse(const char *text, struct window *w)
{
    int first = 0, second = 0;
    *w = (struct window){MCS_WINDOW_AUTO, 0, 0};
    if (!strcmp(text, "auto")) return MCS_OK;
    if (!strcmp(text, "full")) {
        w->kind = MCS_WINDOW_FULL;
        return MCS_OK;
    }
    const char *at = read_end(text, &w->low, &first);
    if (at && *at == ':') at = read_end(at + 1, &w->high, &second);
    const int ok =
        at && !*at && at != text && first == second && w->low < w->high && (!first || (w->low >= 0 && w->high <= 100));
    MCS_REQUIRE(ok, MCS_E_USAGE,
                "--window %s: want auto, full, two values such as -160:240, or two percentiles such as 0.5%%:99.5%%",
                text);
    w->kind = first ? MCS_WINDOW_PERCENTILES : MCS_WINDOW_VALUES;
    return MCS_OK;
}

enum mcs_status mcs_window_use(const char *text)
{
    struct window w;
    MCS_TRY(mcs_window_parse(text ? text : "auto", &w));
    used = w;
    return MCS_OK;
}

struct window mcs_window_used(void)
{
    return used;
}

/* ---- percentiles ---- */

/* Hoare's selection: afterwards v[k] is the k-th smallest, smaller ones before it and larger ones behind it. */
static void select_kth(float *v, int64_t n, int64_t k)
{
    int64_t low = 0, high = n - 1;
    while (low < high) {
        const float pivot = v[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (v[i] < pivot) i++;
            while (v[j] > pivot) j--;
            if (i > j) break;
            const float t = v[i];
            v[i++] = v[j];
            v[j--] = t;
        }
        if (k <= j)
            high = j;
        else if (k >= i)
            low = i;
        else
            return;
    }
}

/* numpy.percentile, method "linear". */
static double percentile(float *v, int64_t n, double percent)
{
    const double at = percent / 100 * (double)(n - 1);
    const int64_t k = (int64_t)floor(at);
    select_kth(v, n, k);
    if (k + 1 >= n) return v[k];
    float next = v[k + 1];
    for (int64_t i = k + 2; i < n; i++)
        if (v[i] < next) next = v[i];
    return v[k] + (at - (double)k) * ((double)next - v[k]);
}

static enum mcs_status by_percentiles(const char *name, const struct picture *p, double from, double to, double *low,
                                      double *high)
{
    const int64_t n = mcs_picture_count(p);
    int64_t finite = 0;
    const int colours = p->channels >= 3 ? 3 : 1;
    MCS_TRY(mcs_memory_check(n * (int64_t)sizeof(float), "%s: its percentiles", name));
    float *v = malloc((size_t)n * sizeof *v);
    MCS_REQUIRE(v, MCS_E_NOMEM, "%s: no memory for its percentiles", name);
    mcs_picture_to_float(p, 0, n, v);
    for (int64_t i = 0; i < n; i++)
        if (isfinite(v[i]) && i % p->channels < colours) v[finite++] = v[i];
    if (finite) {
        *low = percentile(v, finite, from);
        *high = percentile(v, finite, to);
    }
    free(v);
    MCS_REQUIRE(finite, MCS_E_DATA, "%s: no value in it is finite", name);
    return MCS_OK;
}

/* ---- window ---- */

static int is_float(const struct picture *p)
{
    return p->type == MCS_PICTURE_F32 || p->type == MCS_PICTURE_F64;
}

/* Two numbers in their order, rescaled. */
static void rescaled(const struct picture *p, double a, double b, double *low, double *high)
{
    const double x = p->slope * a + p->inter, y = p->slope * b + p->inter;
    *low = fmin(x, y);
    *high = fmax(x, y);
}

static enum mcs_status full_range(const char *name, const struct picture *p, double *low, double *high)
{
    if (is_float(p)) return by_percentiles(name, p, 0, 100, low, high);
    const int is_signed = p->type == MCS_PICTURE_I8 || p->type == MCS_PICTURE_I16 || p->type == MCS_PICTURE_I32 ||
                          p->type == MCS_PICTURE_I64;
    const double half = ldexp(1, p->bits - 1);
    rescaled(p, is_signed ? -half : 0, is_signed ? half - 1 : 2 * half - 1, low, high);
    return MCS_OK;
}

enum mcs_status mcs_window_of(const char *name, const struct picture *p, const struct window *w, int *windowed,
                              double *low, double *high)
{
    const int plain = p->type == MCS_PICTURE_U8 && p->slope == 1 && p->inter == 0;
    *low = 0;
    *high = 255;
    *windowed = !p->palette;
    if (p->palette) return MCS_OK; /* indices are no intensities */
    switch (w->kind) {
    case MCS_WINDOW_VALUES:
        *low = w->low;
        *high = w->high;
        return MCS_OK;
    case MCS_WINDOW_PERCENTILES: return by_percentiles(name, p, w->low, w->high, low, high);
    case MCS_WINDOW_FULL: return full_range(name, p, low, high);
    default: break;
    }
    if (p->has_window) {
        *low = p->window_low;
        *high = p->window_high;
        return MCS_OK;
    }
    if (plain) {
        *windowed = p->bits < 8; /* 0 to 15 are shown as 0 to 255 */
        *high = (1 << p->bits) - 1;
        return MCS_OK;
    }
    if (p->channels >= 3 && !is_float(p)) return full_range(name, p, low, high);
    return by_percentiles(name, p, 0.5, 99.5, low, high);
}

/* ---- 8 bits ---- */

static uint8_t shown(double v, double low, double high)
{
    if (!(v > low)) return 0; /* NaN too */
    if (v >= high) return 255;
    return (uint8_t)lrint(255 * (v - low) / (high - low));
}

static void show_palette(const struct picture *p, int64_t n, uint8_t *dst)
{
    const int shift = p->palette_max == 65535 ? 8 : 0;
    for (int64_t i = 0; i < n; i++) {
        const double stored = mcs_picture_value(p, i * p->channels);
        const int k =
            stored >= 0 && stored < p->n_palette ? (int)stored : -1; /* beyond it: black, as Pillow shows it */
        for (int c = 0; c < 3; c++) dst[3 * i + c] = (uint8_t)(k < 0 ? 0 : p->palette[3 * k + c] >> shift);
    }
}

static void show_values(const struct picture *p, int64_t n, int colours, int windowed, double low, double high,
                        uint8_t *dst)
{
    const uint8_t *bytes = p->values;
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < colours; c++) {
            const int64_t at = i * p->channels + c;
            dst[i * colours + c] =
                windowed ? shown(p->slope * mcs_picture_value(p, at) + p->inter, low, high) : bytes[at];
        }
    if (p->inverted)
        for (int64_t i = 0; i < n * colours; i++) dst[i] = (uint8_t)(255 - dst[i]);
}

enum mcs_status mcs_picture_to_image(const char *name, const struct picture *p, const struct window *w,
                                     int want_channels, struct image *img)
{
    const int colours = p->palette || p->channels >= 3 ? 3 : 1;
    const int64_t n = (int64_t)p->nx * p->ny;
    double low, high;
    int windowed;
    memset(img, 0, sizeof *img);
    MCS_REQUIRE(p->nz == 1, MCS_E_DATA, "%s: a volume of %d slices, where an image of one is needed", name, p->nz);
    MCS_REQUIRE(want_channels == 0 || want_channels == 1 || want_channels == 3, MCS_E_SHAPE, "%s: %d channels wanted",
                name, want_channels);
    MCS_TRY(mcs_image_check_size(name, p->nx, p->ny));
    MCS_TRY(mcs_window_of(name, p, w, &windowed, &low, &high));
    MCS_TRY(mcs_image_alloc(img, p->nx, p->ny, colours));
    if (p->palette)
        show_palette(p, n, img->pixels);
    else
        show_values(p, n, colours, windowed, low, high, img->pixels);
    return mcs_image_convert(img, want_channels);
}

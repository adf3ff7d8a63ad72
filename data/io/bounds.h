/* Sizes read from files, checked before they are multiplied or narrowed to int. A file can claim any 64-bit size: a
 * cast turns 4294967297 slices (2^32 plus 1) into 1, and a product of two sizes wraps to a small buffer. */
#ifndef MCS_BOUNDS_H
#define MCS_BOUNDS_H

#include <limits.h>
#include <stdint.h>

/* a * b; -1 if either is negative or the product exceeds INT64_MAX. A result of -1 can be passed on to the next call.
 */
static inline int64_t mcs_size_mul(int64_t a, int64_t b)
{
    int64_t product;
    return a < 0 || b < 0 || __builtin_mul_overflow(a, b, &product) ? -1 : product;
}

/* Stores a size of lo..hi as an int and returns 1; returns 0 and stores nothing for any other size. */
static inline int mcs_size_to_int(int64_t size, int lo, int hi, int *dst)
{
    if (size < lo || size > hi) return 0;
    *dst = (int)size;
    return 1;
}

/* Stores n sizes of 1..INT_MAX as ints and returns 1; 0 where one of them is out of range. */
static inline int mcs_sizes_to_int(int n, const int64_t *sizes, int *dst)
{
    for (int i = 0; i < n; i++)
        if (!mcs_size_to_int(sizes[i], 1, INT_MAX, dst + i)) return 0;
    return 1;
}

#endif

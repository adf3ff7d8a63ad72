#include "tests/support/support_rank.h"

#include "data/image/image.h"
#include "tests/support/support_ops.h"

#include <criterion/criterion.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

const int rank_boxes[RANK_COMPONENTS][4] = {{5, 4, 12, 11}, {30, 6, 39, 11}, {18, 25, 24, 33}};

int rank_component_at(int x, int y)
{
    for (int k = 0; k < RANK_COMPONENTS; k++)
        if (x >= rank_boxes[k][0] && x <= rank_boxes[k][2] && y >= rank_boxes[k][1] && y <= rank_boxes[k][3])
            return k + 1;
    return 0;
}

void rank_make_map(const float confidence[RANK_COMPONENTS], float *map)
{
    for (int y = 0; y < RANK_HEIGHT; y++)
        for (int x = 0; x < RANK_WIDTH; x++) {
            const int c = rank_component_at(x, y);
            map[y * RANK_WIDTH + x] = c ? confidence[c - 1] : 0;
        }
}

struct coarse_result rank_coarse(const float *map, const struct coarse_options *o, const struct coarse_text_scorer *s,
                                 uint8_t *mask)
{
    struct coarse_result r;
    OK(mcs_coarse_mask(support_cpu_scratch(), &(struct map2){RANK_WIDTH, RANK_HEIGHT, (float *)(uintptr_t)map}, "a", o,
                       s, NULL, mask, &r));
    return r;
}

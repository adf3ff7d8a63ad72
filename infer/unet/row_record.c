#include "infer/unet/row_record.h"

#include <stdio.h>
#include <stdlib.h>

enum { N = 3 };

json_t *mcs_uncertainty_row_json(const struct uncertainty_row *row)
{
    const double v[N] = {row->score, row->score_area, row->mean};
    json_t *list = json_array();
    for (int i = 0; i < N; i++) {
        char text[40];
        snprintf(text, sizeof text, "%.17g", v[i]);
        json_array_append_new(list, json_string(text));
    }
    json_array_append_new(list, json_integer(row->foreground));
    return list;
}

int mcs_uncertainty_row_read(const json_t *v, struct uncertainty_row *row)
{
    double *const to[N] = {&row->score, &row->score_area, &row->mean};
    if (json_array_size(v) != N + 1 || !json_is_integer(json_array_get(v, N))) return 0;
    for (size_t i = 0; i < N; i++) {
        const char *text = json_string_value(json_array_get(v, i));
        if (!text) return 0;
        *to[i] = strtod(text, NULL);
    }
    row->foreground = json_integer_value(json_array_get(v, N));
    return 1;
}

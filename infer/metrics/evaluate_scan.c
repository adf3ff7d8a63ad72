/* Which labels there are: a binary mask in every file, or classes. */
#include "engine/base/stop.h"
#include "infer/metrics/evaluate.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_CLASSES = 1024 };

/* The labels of one folder but 0 and the one to ignore. */
struct seen {
    int n;
    int64_t labels[MAX_CLASSES];
    const char *files[MAX_CLASSES]; /* the first with this label */
    int has_several;                /* 1: a file has more than one of them */
};

static enum mcs_status look(const struct label_map *m, const char *path, const struct label_rule *rule, struct seen *s)
{
    int n = 0;
    for (int i = 0; i < m->n; i++) {
        int k = 0;
        if (!m->count[i] || m->label[i] == 0 || (rule->has_ignore && m->label[i] == rule->ignore)) continue;
        n++;
        while (k < s->n && s->labels[k] != m->label[i]) k++;
        if (k < s->n) continue;
        MCS_REQUIRE(s->n < MAX_CLASSES, MCS_E_DATA, "%s: the masks have more than %d labels; name some by --labels",
                    path, MAX_CLASSES);
        s->labels[s->n] = m->label[i];
        s->files[s->n++] = path;
    }
    s->has_several |= n > 1;
    return MCS_OK;
}

static int by_label(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Masks of one label each: whether that is one mask written in several ways (1 and 255), or classes, nobody knows. */
static enum mcs_status check_binary(const struct seen *s)
{
    for (int i = 0; i < s->n; i++)
        for (int k = 0; k < i; k++)
            MCS_REQUIRE(
                (s->labels[i] == 1 && s->labels[k] == 255) || (s->labels[i] == 255 && s->labels[k] == 1), MCS_E_DATA,
                "%s has the label %lld alone and %s %lld: say whether these are classes (--labels %lld,%lld) or "
                "one mask (--merge-labels)",
                s->files[k], (long long)s->labels[k], s->files[i], (long long)s->labels[i], (long long)s->labels[k],
                (long long)s->labels[i]);
    return MCS_OK;
}

static enum mcs_status set_classes(const struct seen seen[2], struct evaluation *e)
{
    int64_t all[2 * MAX_CLASSES];
    int n = 0, shared = 0;
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < seen[side].n; i++) {
            int k = 0;
            while (k < n && all[k] != seen[side].labels[i]) k++;
            shared += k < n;
            if (k == n) all[n++] = seen[side].labels[i];
        }
    MCS_REQUIRE(
        shared || !seen[0].n || !seen[1].n, MCS_E_DATA,
        "predictions and references have no label in common: %s has %lld, %s has %lld; where all labels are one "
        "mask, say --merge-labels",
        seen[0].files[0], (long long)seen[0].labels[0], seen[1].files[0], (long long)seen[1].labels[0]);
    qsort(all, (size_t)n, sizeof *all, by_label);
    mcs_regions_each(&e->arena, all, n, &e->rule, &e->regions);
    return MCS_OK;
}

static enum mcs_status scan(const struct case_list *p, const struct case_list *r, const struct evaluate_options *o,
                            struct seen seen[2], struct label_map keep[2])
{
    for (int i = p->n - 1; i >= 0; i--) {
        const struct case_file *files[2] = {p->files + i, mcs_cases_partner(p, i, r)};
        MCS_TRY(mcs_stop_check());
        if (!files[1]) continue;
        for (int side = 0; side < 2; side++) {
            mcs_labels_free(&keep[side]);
            const enum mcs_status st = mcs_evaluate_read(files[side]->path, o, &keep[side]);
            if (st == MCS_E_NOMEM) return mcs_trace(st, __FILE__, __LINE__);
            if (st == MCS_OK)
                MCS_TRY(look(&keep[side], files[side]->path, &o->rule, &seen[side]));
            else
                mcs_error_clear(); /* it fails again, and is listed, when the case is evaluated */
        }
    }
    return MCS_OK;
}

enum mcs_status mcs_evaluate_scan(const struct case_list *p, const struct case_list *r,
                                  const struct evaluate_options *o, struct evaluation *e, struct label_map keep[2])
{
    struct seen *seen = calloc(2, sizeof *seen);
    enum mcs_status st;
    MCS_REQUIRE(seen, MCS_E_NOMEM, "no memory to list labels");
    MCS_TRY_GOTO(scan(p, r, o, seen, keep), st, done);
    if (seen[0].has_several || seen[1].has_several) {
        MCS_TRY_GOTO(set_classes(seen, e), st, done);
        goto done;
    }
    MCS_TRY_GOTO(check_binary(&seen[0]), st, done);
    MCS_TRY_GOTO(check_binary(&seen[1]), st, done);
    mcs_regions_any(&e->arena, &e->regions);
done:
    free(seen);
    if (st != MCS_OK)
        for (int side = 0; side < 2; side++) mcs_labels_free(&keep[side]);
    return st;
}

#include "engine/base/form.h"

const char *const mcs_form_stage_names[MCS_FORM_STAGES] = {
#define X(upper, lower) #lower,
    MCS_FORM_LIST(X)
#undef X
};

const char *mcs_form_text(const enum mcs_form form[MCS_FORM_STAGES], struct arena *arena)
{
    const char *text = "";
    int release = 0;
    for (int s = 0; s < MCS_FORM_STAGES; s++) release += form[s] == MCS_RELEASE;
    if (release == 0) return "paper";
    if (release == MCS_FORM_STAGES) return "release";
    for (int s = 0; s < MCS_FORM_STAGES; s++)
        text = mcs_arena_printf(arena, "%s%s%s=%s", text, s ? "," : "", mcs_form_stage_names[s],
                                form[s] == MCS_RELEASE ? "release" : "paper");
    return text;
}

#include "infer/clip/clip_parts.h"
#include "infer/sam/sam_model.h"
#include "tests/fuzz/support_fuzz.h"

static void use(const struct clip_config *c)
{
    FUZZ_REQUIRE(c->patch > 0 && c->image_size >= c->patch && c->v_heads > 0 && c->v_width % c->v_heads == 0 &&
                     c->t_heads > 0 && c->t_width % c->t_heads == 0 && c->context >= 2 && c->v_mlp > 0 && c->t_mlp > 0,
                 "image %d, patch %d", c->image_size, c->patch);
}

FUZZ(model)
{
    struct clip_config c;
    struct sam_config s;
    fuzz_file(data, size, "open_clip_config.json");
    if (fuzz_ended(mcs_clip_config_read(fuzz_folder(), &c))) use(&c);
    fuzz_file(data, size, "preprocessor_config.json");
    fuzz_file(data, size, "config.json");
    c = mcs_clip_biomed();
    fuzz_ended(mcs_clip_hugging_face_read(fuzz_folder(), &c));
    if (fuzz_ended(mcs_sam_config_read(fuzz_file(data, size, "config.json"), &s)))
        FUZZ_REQUIRE(s.patch > 0 && s.image_size >= s.patch && s.heads > 0 && s.width % s.heads == 0 &&
                         s.n_global >= 0 && s.n_global <= s.depth,
                     "image %d, patch %d", s.image_size, s.patch);
}

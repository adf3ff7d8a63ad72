#include "data/image.h"
#include "tests/fuzz/support_fuzz.h"

FUZZ(jpeg)
{
    struct image img;
    const char *path = fuzz_file(data, size, "f.jpg");
    for (int channels = 0; channels <= 3; channels += 3) { /* as it is, and as models want it */
        if (!fuzz_ended(mcs_image_read(path, channels, &img))) continue;
        FUZZ_REQUIRE(img.width > 0 && img.height > 0 && (img.channels == 1 || img.channels == 3), "%d x %d x %d",
                     img.width, img.height, img.channels);
        FUZZ_REQUIRE(!channels || img.channels == 3, "%d channels", img.channels);
        fuzz_use(img.pixels, (size_t)img.width * (size_t)img.height * (size_t)img.channels);
        mcs_image_free(&img);
    }
}

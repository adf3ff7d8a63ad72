/* Every planted mistake is reported: its kind, the kernel's line, the error that the program sees, with threads in
 * order and in three random orders. Nothing else is reported, and a correct program causes no report. */
#include <criterion/criterion.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include <string>
#include <vector>

#include "tests/cudasim/planted.h"

extern "C" cudaError_t planted_nothing(void);

/* "planted.cu:12" for each line of planted.cu with the mark. */
static std::vector<std::string> places(const char *mark)
{
    std::vector<std::string> found;
    FILE *f = fopen(MCS_SOURCE_DIR "/tests/cudasim/planted.cu", "r");
    cr_assert(f);
    char line[256];
    for (int n = 1; fgets(line, sizeof line, f); n++)
        if (strstr(line, (std::string("/* here: ") + mark + " */").c_str()))
            found.push_back("planted.cu:" + std::to_string(n));
    fclose(f);
    cr_assert(!found.empty(), "no line is marked %s", mark);
    return found;
}

static bool says(int report, const struct planted *p)
{
    const std::string text = std::string(cudasim_report_text(report)) + ":"; /* so that :12 does not match :123 */
    if (p->says && text.find(p->says) == std::string::npos) return false;
    if (!p->here) return true;
    for (const std::string &place : places(p->here)) {
        const size_t at = text.find(place);
        if (at != std::string::npos && !isdigit(text[at + place.size()])) return true;
    }
    return false;
}

Test(planted, each_is_reported)
{
    cr_assert(cudasim_checked());
    cudasim_quiet(1);
    for (int i = 0; i < n_planted; i++)
        for (uint64_t seed = 0; seed < 4; seed++) {
            const struct planted *p = &planted[i];
            cudasim_seed(seed);
            cudasim_reports_clear();
            const cudaError_t e = p->run();
            cudaGetLastError();
            cr_expect_eq(e, p->error, "%s, seed %d: ends with %s", p->name, (int)seed, cudaGetErrorName(e));
            int right = 0;
            std::string all;
            for (int r = 0; r < cudasim_reports(); r++) {
                all += std::string("\n    ") + cudasim_report_text(r);
                right += cudasim_report_kind(r) == p->want && says(r, p);
                /* without the barrier a thread may also read uninitialised memory */
                cr_expect(cudasim_report_kind(r) == p->want ||
                              (p->want == CUDASIM_RACE_SHARED && cudasim_report_kind(r) == CUDASIM_UNINIT),
                          "%s, seed %d: also %s", p->name, (int)seed, cudasim_report_text(r));
            }
            cr_expect(right, "%s, seed %d: not reported as meant; reports:%s", p->name, (int)seed, all.c_str());
            cr_expect_eq(cudaGetLastError(), cudaSuccess);
        }
    cr_expect_eq(cudasim_bytes_held(), 0);
}

Test(planted, correct_kernel_is_clean)
{
    for (uint64_t seed = 0; seed < 8; seed++) {
        cudasim_seed(seed);
        cr_expect_eq(planted_nothing(), cudaSuccess);
        for (int r = 0; r < cudasim_reports(); r++) cr_expect(0, "%s", cudasim_report_text(r));
    }
}

/* The text names the place, the thread and the conflicting thread. */
Test(planted, report_text)
{
    cudasim_quiet(1);
    planted[0].run();
    cr_assert_geq(cudasim_reports(), 1);
    const char *text = "";
    for (int r = 0; r < cudasim_reports(); r++)
        if (cudasim_report_kind(r) == CUDASIM_RACE_SHARED) text = cudasim_report_text(r);
    for (const char *part : {"race in shared memory", ": tests/cudasim/planted.cu:", "read after a write by thread",
                             "no barrier between", "kernel missing_barrier", "block (0,0,0)", "thread ("})
        cr_expect(strstr(text, part), "no '%s' in: %s", part, text);
    cr_expect_not(strchr(text, '\n'));
}

/* data/lesions/demo_atlas.c on an atlas that the test makes: a head, a brain and a few labelled voxels of which every
 * answer can be computed; and each atlas that is refused. The names of the regions are those of the installed atlas. */
#include "data/lesions/demo_atlas.h"
#include "tests/support/support_nifti.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

enum { NX = 181, NY = 217, NZ = 181, PLANE = NX * NY, VOXELS = PLANE * NZ, N_SEEDS = 9 };
static uint8_t voxels[VOXELS];

static void setup(void)
{
    shell_open(MCS_BINARY, "--threads 1");
    expect("cp /usr/share/mricron/templates/aal.nii.txt .", 0, "");
}
TestSuite(demo_atlas, .init = setup, .fini = shell_close, .timeout = 60);

/* Writes the first nx ny nz bytes as a volume. */
static void save(const char *name, int nx, int ny, int nz)
{
    static struct nifti_file head;
    struct nifti_spec s = nifti_spec();
    memset(head.bytes, 0, 400);
    s.dim[0] = 3, s.dim[1] = nx, s.dim[2] = ny, s.dim[3] = nz;
    s.datatype = 2, s.bitpix = 8;
    const int n = nifti_header(&s, &head);
    FILE *f = fopen(shell_path(name), "wb");
    cr_assert(f);
    cr_assert_eq(fwrite(head.bytes, 1, (size_t)n, f), (size_t)n);
    cr_assert_eq(fwrite(voxels, 1, (size_t)nx * (size_t)ny * (size_t)nz, f), (size_t)nx * (size_t)ny * (size_t)nz);
    fclose(f);
}

static void refused(enum mcs_status want, const char *part)
{
    struct demo_atlas a;
    const enum mcs_status st = mcs_demo_atlas_load(shell_path("."), &a);
    cr_expect_eq(st, want, "status %d, want %d: %s", (int)st, (int)want, mcs_error_message());
    cr_expect(strstr(mcs_error_message(), part), "want '%s' in: %s", part, mcs_error_message());
    cr_expect(!a.value && !a.label && !a.brain);
    mcs_error_clear();
}

/* ---- sizes ---- */

Test(demo_atlas, sizes_that_are_refused)
{
    static const int other[][3] = {{5, 4, 3}, {4, 5, 3}, {4, 4, 2}};
    char want[128];
    memset(voxels, 1, 1000);
    save("ch2.nii.gz", 4, 4, 3);
    for (int part = 0; part < 2; part++) {
        const char *name = part ? "aal.nii.gz" : "ch2bet.nii.gz";
        refused(MCS_E_NOINPUT, name);
        for (int k = 0; k < 3; k++) {
            save(name, other[k][0], other[k][1], other[k][2]);
            snprintf(want, sizeof want, "/%s: %d x %d x %d voxels, ch2.nii.gz beside it has 4 x 4 x 3", name,
                     other[k][0], other[k][1], other[k][2]);
            refused(MCS_E_DATA, want);
        }
        save(name, 4, 4, 3);
    }
    refused(MCS_E_DATA, "/ch2.nii.gz: want 181 x 217 x 181 voxels, got 4 x 4 x 3");
    static const int near[][3] = {{NX - 1, NY, NZ}, {NX, NY - 1, NZ}, {NX, NY, NZ - 1}};
    for (int k = 0; k < 3; k++) {
        save("ch2.nii.gz", near[k][0], near[k][1], near[k][2]);
        expect("ln -sf ch2.nii.gz ch2bet.nii.gz; ln -sf ch2.nii.gz aal.nii.gz", 0, "");
        snprintf(want, sizeof want, "want 181 x 217 x 181 voxels, got %d x %d x %d", near[k][0], near[k][1],
                 near[k][2]);
        refused(MCS_E_DATA, want);
    }
}

/* ---- names ---- */

Test(demo_atlas, names_that_are_refused)
{
    memset(voxels, 1, 1000);
    save("ch2.nii.gz", 4, 4, 3);
    expect("grep _ aal.nii.txt | tr -d '\\r' > all.txt; grep -c _ all.txt; wc -l < all.txt", 0, "116");
    expect("head -n 115 all.txt > aal.nii.txt", 0, "");
    refused(MCS_E_DATA, "aal.nii.txt: want 116 named regions, got 115");
    expect("cat all.txt > aal.nii.txt; echo 117 More_L 2001 >> aal.nii.txt", 0, "");
    refused(MCS_E_DATA, "aal.nii.txt, line 117: want \"NUMBER NAME CODE\" with a number of 1 to 116");
    expect("echo 0 Zero_L 2001 > aal.nii.txt; cat all.txt >> aal.nii.txt", 0, "");
    refused(MCS_E_DATA, "aal.nii.txt, line 1: want");
    expect("cat all.txt > aal.nii.txt; echo 116 Again_L 2001 >> aal.nii.txt", 0, "");
    refused(MCS_E_DATA, "aal.nii.txt, line 117: label 116 is there twice");
    expect("cat all.txt > aal.nii.txt; echo 1 Name >> aal.nii.txt", 0, "");
    refused(MCS_E_DATA, "aal.nii.txt, line 117: want");
    expect("tac all.txt > aal.nii.txt", 0, ""); /* in any order */
    refused(MCS_E_NOINPUT, "ch2bet.nii.gz");
}

/* ---- a whole atlas ---- */

static const int seed[N_SEEDS][4] = {/* x, y, z of the volume, label */
                                     {3, 5, DEMO_Z_LOW, 7},          {170, 200, DEMO_Z_LOW, 90},
                                     {90, 100, DEMO_Z_HIGH, 116},    {20, 180, DEMO_Z_LOW + 10, 1},
                                     {150, 30, DEMO_Z_LOW + 25, 44}, {91, 108, DEMO_Z_LOW + 20, 61},
                                     {60, 60, DEMO_Z_HIGH - 3, 12},  {61, 60, DEMO_Z_HIGH - 3, 13},
                                     {0, 216, DEMO_Z_HIGH - 9, 99}};

static uint8_t head_at(int x, int y, int z)
{
    return x == 100 && y == 100 && z % 2 ? 250 : (uint8_t)(1 + (x * 3 + y * 5 + z) % 100);
}

static int in_brain(int x, int y, int z)
{
    return x >= 20 && x < 160 && y >= 10 && y < 207 && z >= 5 && z < 175;
}

static void write_parts(int with_brain, int with_labels)
{
    for (int i = 0; i < VOXELS; i++) voxels[i] = head_at(i % NX, i / NX % NY, i / PLANE);
    save("ch2.nii.gz", NX, NY, NZ);
    for (int i = 0; i < VOXELS; i++) voxels[i] = with_brain && in_brain(i % NX, i / NX % NY, i / PLANE) ? 9 : 0;
    save("ch2bet.nii.gz", NX, NY, NZ);
    memset(voxels, 0, sizeof voxels);
    voxels[PLANE * (DEMO_Z_LOW - 1) + 90 * NX + 90] = 5; /* outside of the slices that are kept: never seen */
    voxels[PLANE * (DEMO_Z_HIGH + 1) + 90 * NX + 90] = 6;
    voxels[PLANE * (DEMO_Z_LOW + 5) + 50 * NX + 50] = 117; /* no label */
    for (int k = 0; k < N_SEEDS && with_labels; k++)
        voxels[PLANE * seed[k][2] + seed[k][1] * NX + seed[k][0]] = (uint8_t)seed[k][3];
    save("aal.nii.gz", NX, NY, NZ);
}

static int squared(const int *s, int x, int y, int z)
{
    return (s[0] - x) * (s[0] - x) + (s[1] - y) * (s[1] - y) + (s[2] - z) * (s[2] - z);
}

/* Each value from 1 to 100 is a hundredth of the brain, less the few of 250: 99 in a hundred lie below 100, which is
 * the scale; values above 1 are clipped. */
Test(demo_atlas, every_voxel_of_a_made_one)
{
    struct demo_atlas a;
    write_parts(1, 1);
    OK(mcs_demo_atlas_load(shell_path("."), &a));
    cr_assert(a.nx == NX && a.ny == NY && a.nz == DEMO_Z_HIGH - DEMO_Z_LOW + 1);
    const float unit = a.value[0] / (float)head_at(0, 0, DEMO_Z_LOW);
    cr_expect(unit > 0.0074999f && unit < 0.0075001f, "%.9g", (double)unit); /* 100 is 0.75 */
    for (int z = DEMO_Z_LOW; z <= DEMO_Z_HIGH; z++)
        for (int y = 0; y < NY; y++)
            for (int x = 0; x < NX; x++) {
                const int at = (z - DEMO_Z_LOW) * PLANE + y * NX + x, v = head_at(x, y, z);
                const float want = unit * (float)v < 1 ? unit * (float)v : 1;
                if (a.value[at] - want > 1e-6f || want - a.value[at] > 1e-6f)
                    cr_assert(0, "%d %d %d: %g, want %g", x, y, z, (double)a.value[at], (double)want);
                if (a.brain[at] != in_brain(x, y, z)) cr_assert(0, "%d %d %d: brain %d", x, y, z, a.brain[at]);
                if ((x * 7 + y * 5 + z) % 11) continue;
                int best = 1 << 30, is = 0;
                for (int k = 0; k < N_SEEDS; k++)
                    best = squared(seed[k], x, y, z) < best ? squared(seed[k], x, y, z) : best;
                for (int k = 0; k < N_SEEDS; k++) is |= squared(seed[k], x, y, z) == best && a.label[at] == seed[k][3];
                if (!is) cr_assert(0, "%d %d %d: label %d is not the nearest", x, y, z, a.label[at]);
            }
    mcs_demo_atlas_free(&a);
    cr_expect(!a.value && !a.nx);
}

Test(demo_atlas, without_labels_or_without_a_brain)
{
    write_parts(0, 1);
    refused(MCS_E_DATA, ": ch2bet.nii.gz holds no brain");
    write_parts(1, 0);
    refused(MCS_E_DATA, "the atlas has no labelled voxel");
}

/* Memory limits: sizes as users type them, the limit, and free memory according to the system's files. */
#include "engine/base/memory.h"
#include "engine/base/status.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

static const int64_t KIB = 1024, MIB = 1 << 20, GIB = 1 << 30;

static void reset(void)
{
    mcs_memory_limit_set(0);
    mcs_error_clear();
}

TestSuite(memory, .init = reset, .fini = reset);

Test(memory, sizes_are_read_as_people_type_them)
{
    const struct {
        const char *text;
        int64_t bytes;
    } good[] = {{"1", 1},           {"1000000", 1000000}, {"64k", 64 * KIB},  {"512M", 512 * MIB},
                {"8G", 8 * GIB},    {"8GB", 8 * GIB},     {"8 GiB", 8 * GIB}, {"1.5g", 3 * GIB / 2},
                {"2T", 2048 * GIB}, {"0.5 KiB", 512},     {"17b", 17},        {"1048576T", (int64_t)1 << 60}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t bytes = 0;
        cr_expect_eq(mcs_memory_parse(good[i].text, "--max-memory", &bytes), MCS_OK, "%s: %s", good[i].text,
                     mcs_error_message());
        cr_expect_eq(bytes, good[i].bytes, "%s: %lld", good[i].text, (long long)bytes);
    }
    static const char *const bad[] = {
        "",  "G",   "-1G",  "+1G", "8X",  "8G8", "1e9",   "0x10",     "inf", "nan",
        "0", "0.0", "1GiX", "8 i", "8ii", ".",   "8Gi B", "2097152T", "1e",  "9999999999999999999T"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t bytes = -7;
        cr_expect_eq(mcs_memory_parse(bad[i], "--max-memory", &bytes), MCS_E_USAGE, "'%s' was read", bad[i]);
        cr_expect(strstr(mcs_error_message(), "--max-memory"), "%s", mcs_error_message());
        cr_expect_eq(bytes, -7);
        mcs_error_clear();
    }
}

Test(memory, the_limit_counts_what_is_in_use)
{
    mcs_memory_limit_set(64 * GIB);
    const int64_t before = mcs_memory_left();
    cr_assert(before > 0 && before < 64 * GIB, "%lld", (long long)before);
    /* 64 MiB of written pages are resident; other pages of the process may change, by 16 MiB at most */
    char *taken = malloc((size_t)(64 * MIB));
    cr_assert(taken);
    memset(taken, 1, (size_t)(64 * MIB));
    const int64_t after = mcs_memory_left();
    cr_expect(after <= before - 48 * MIB, "%lld before, %lld after", (long long)before, (long long)after);
    cr_assert_eq(taken[12345], 1);
    free(taken);

    cr_expect_eq(mcs_memory_check(32 * GIB, "a.nii"), MCS_OK);
    cr_expect_eq(mcs_memory_check(64 * GIB, "%s", "a.nii"), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "a.nii: needs 64.0 GiB of memory, --max-memory allows 64.0 GiB and "), "%s",
              mcs_error_message());
    mcs_error_clear();
    cr_expect_eq(mcs_memory_check(-1, "a.nii"), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "a.nii: needs more memory than can be addressed"), "%s", mcs_error_message());
    mcs_error_clear();
    cr_expect_eq(mcs_memory_check_as(MCS_E_NOMEM, 65 * GIB, "a batch"), MCS_E_NOMEM);
    mcs_error_clear();
    mcs_memory_limit_set(1);
    cr_expect_eq(mcs_memory_check(MIB - 1, "a.nii"), MCS_OK, "small ones pass");
    cr_expect_eq(mcs_memory_left(), 0);
    cr_expect_eq(mcs_memory_check(MIB, "a.nii"), MCS_E_DATA);
}

Test(memory, without_a_limit_the_free_memory_is_one)
{
    const int64_t left = mcs_memory_left();
    cr_assert_gt(left, 0);
    cr_expect_eq(mcs_memory_check(MIB, "a.nii"), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(mcs_memory_check((int64_t)1 << 60, "a.nii"), MCS_E_DATA, "an EiB, more than any machine has");
    cr_expect(strstr(mcs_error_message(), "--max-memory SIZE sets another limit") ||
                  strstr(mcs_error_message(), "the limits on this process (ulimit -v, -d) leave "),
              "%s", mcs_error_message()); /* the second where the test runs under a limit */
}

#ifndef MCS_SANITIZE /* its shadow memory takes terabytes of address space */
/* A value of /proc/self/status in bytes. */
static int64_t status_bytes(const char *key)
{
    char line[256];
    long long kib = -1;
    FILE *f = fopen("/proc/self/status", "r");
    cr_assert(f);
    while (kib < 0 && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0) kib = strtoll(line + strlen(key), NULL, 10);
    fclose(f);
    cr_assert(kib >= 0, "no %s", key);
    return kib * KIB;
}

/* Without --max-memory, the memory that ulimit -v and -d leave counts where it is less than the machine's free memory.
 */
Test(memory, limits_of_the_process_count)
{
    static const struct {
        int resource;
        const char *key;
    } limits[] = {{RLIMIT_AS, "VmSize:"}, {RLIMIT_DATA, "VmData:"}};
    for (int i = 0; i < 2; i++) {
        struct rlimit before, now;
        cr_assert_eq(getrlimit(limits[i].resource, &before), 0);
        now = before;
        /* data includes the stack, 8 MiB of it at most by default */
        now.rlim_cur = (rlim_t)(status_bytes(limits[i].key) + 96 * MIB);
        cr_assert_eq(setrlimit(limits[i].resource, &now), 0);
        const int64_t left = mcs_memory_left();
        const enum mcs_status fits = mcs_memory_check(64 * MIB, "a.nii"),
                              too_much = mcs_memory_check(97 * MIB, "a.nii");
        char said[256];
        snprintf(said, sizeof said, "%s", mcs_error_message());
        mcs_error_clear();
        now.rlim_cur = 4096; /* less than it uses already */
        cr_assert_eq(setrlimit(limits[i].resource, &now), 0);
        const int64_t none = mcs_memory_left();
        mcs_memory_limit_set(64 * GIB);
        const int64_t by_option = mcs_memory_left();
        mcs_memory_limit_set(0);
        cr_assert_eq(setrlimit(limits[i].resource, &before), 0);
        cr_expect(left <= 96 * MIB && left > 80 * MIB, "%s %lld", limits[i].key, (long long)left);
        cr_expect_eq(fits, MCS_OK, "%s", limits[i].key);
        cr_expect_eq(too_much, MCS_E_DATA, "%s", limits[i].key);
        cr_expect(
            strstr(said, "a.nii: needs 97.0 MiB of memory, but the limits on this process (ulimit -v, -d) leave "),
            "%s", said);
        cr_expect_eq(none, 0, "%s %lld", limits[i].key, (long long)none);
        cr_expect(by_option > 32 * GIB, "--max-memory says how much");
    }
}
#endif

Test(memory, sizes_are_shown_in_the_largest_unit)
{
    const struct {
        int64_t bytes;
        const char *text;
    } cases[] = {{0, "0 bytes"},
                 {1023, "1023 bytes"},
                 {1024, "1.0 KiB"},
                 {1536, "1.5 KiB"},
                 {1024 * 1024 - 103, "1023.9 KiB"},
                 {1 << 20, "1.0 MiB"},
                 {(int64_t)5 << 30, "5.0 GiB"},
                 {(int64_t)3 << 40, "3.0 TiB"},
                 {(int64_t)7 << 50, "7.0 PiB"},
                 {(int64_t)4 << 60, "4.0 EiB"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[32], small[6];
        cr_expect_eq(mcs_memory_text(cases[i].bytes, text, sizeof text), text);
        cr_expect_str_eq(text, cases[i].text);
        mcs_memory_text(cases[i].bytes, small, sizeof small);
        cr_expect(strncmp(small, cases[i].text, 5) == 0 && strlen(small) <= 5);
    }
}

/* ---- a system made of files ---- */

static char root[64];

static void make_root(void)
{
    reset();
    snprintf(root, sizeof root, "/tmp/mcs_memory_XXXXXX");
    cr_assert(mkdtemp(root));
}

static void remove_root(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    cr_assert_eq(system(command), 0);
}

TestSuite(memory_system, .init = make_root, .fini = remove_root);

static void put(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *c = full + strlen(root) + 1; (c = strchr(c, '/')); *c++ = '/') {
        *c = '\0';
        mkdir(full, 0777);
    }
    FILE *f = fopen(full, "w");
    cr_assert(f, "%s", full);
    fputs(text, f);
    fclose(f);
}

Test(memory_system, the_machine_alone)
{
    cr_expect_eq(mcs_memory_free_under(root), INT64_MAX, "a system that does not tell");
    put("proc/meminfo", "MemTotal:       24683520 kB\nMemFree:          123456 kB\nMemAvailable:   10240 kB\n");
    cr_expect_eq(mcs_memory_free_under(root), 10 * MIB);
    put("proc/self/cgroup", "0::/\n");
    put("sys/fs/cgroup/memory.max", "max\n");
    put("sys/fs/cgroup/memory.current", "123\n");
    cr_expect_eq(mcs_memory_free_under(root), 10 * MIB, "a group without a limit");
}

Test(memory_system, version_2_and_the_groups_above)
{
    put("proc/meminfo", "MemAvailable:   10240 kB\n");
    put("proc/self/cgroup", "0::/slurm/job_7/step\n");
    put("sys/fs/cgroup/slurm/job_7/step/memory.max", "max\n");
    put("sys/fs/cgroup/slurm/job_7/step/memory.current", "1048576\n");
    put("sys/fs/cgroup/slurm/job_7/memory.max", "4194304\n");
    put("sys/fs/cgroup/slurm/job_7/memory.current", "3145728\n");
    cr_expect_eq(mcs_memory_free_under(root), MIB);
    put("sys/fs/cgroup/slurm/job_7/memory.stat", "anon 5\nactive_file 7\ninactive_file 2097152\n");
    cr_expect_eq(mcs_memory_free_under(root), 3 * MIB, "the cache counts as free");
    put("sys/fs/cgroup/slurm/job_7/memory.current", "6291456\n");
    cr_expect_eq(mcs_memory_free_under(root), 0, "a group beyond its limit");
}

Test(memory_system, version_1)
{
    put("proc/meminfo", "MemAvailable:   10240 kB\n");
    put("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/box\n1:cpu:/\n0::/\n");
    put("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "5242880\n");
    put("sys/fs/cgroup/memory/box/memory.usage_in_bytes", "2097152\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "2097152\n");
    cr_expect_eq(mcs_memory_free_under(root), 3 * MIB);
    put("sys/fs/cgroup/memory/box/memory.stat", "inactive_file 5\ntotal_inactive_file 1048576\n");
    cr_expect_eq(mcs_memory_free_under(root), 4 * MIB);
}

/* Version 2 beside version 1: its files lie under "unified". */
Test(memory_system, version_2_beside_version_1)
{
    put("proc/meminfo", "MemAvailable:   10240 kB\n");
    put("proc/self/cgroup", "3:memory:/one\n0::/two\n");
    put("sys/fs/cgroup/memory/one/memory.limit_in_bytes", "8388608\n");
    put("sys/fs/cgroup/memory/one/memory.usage_in_bytes", "1048576\n");
    cr_expect_eq(mcs_memory_free_under(root), 7 * MIB);
    put("sys/fs/cgroup/unified/two/memory.max", "8388608\n");
    put("sys/fs/cgroup/unified/two/memory.current", "6291456\n");
    cr_expect_eq(mcs_memory_free_under(root), 2 * MIB);
    put("sys/fs/cgroup/unified/two/memory.stat", "inactive_file 1048576\n");
    cr_expect_eq(mcs_memory_free_under(root), 3 * MIB);
    put("sys/fs/cgroup/unified/two/memory.stat", "inactive_file 16777216\n");
    cr_expect_eq(mcs_memory_free_under(root), 7 * MIB, "more cache than use: all of the limit is free");
    put("proc/meminfo", "MemAvailable:   1024 kB\n");
    cr_expect_eq(mcs_memory_free_under(root), MIB, "the machine has less");
}

/* Missing files of a group, or files without a number, are ignored; the root group counts. */
Test(memory_system, odd_files)
{
    put("proc/meminfo", "MemAvailable: -5 kB\n");
    cr_expect_eq(mcs_memory_free_under(root), INT64_MAX, "no number of that size");
    put("proc/meminfo", "MemAvailable: 99999999999999999999 kB\n");
    cr_expect_eq(mcs_memory_free_under(root), INT64_MAX);
    put("proc/meminfo", "MemAvailable: 9007199254740992 kB\n");
    cr_expect_eq(mcs_memory_free_under(root), INT64_MAX, "2^63 bytes");
    put("proc/meminfo", "MemAvailable: 9007199254740991 kB\n");
    cr_expect_eq(mcs_memory_free_under(root), INT64_MAX - 1023);
    put("proc/meminfo", "MemAvailable: none\nMemAvailable: 0 kB\n");
    cr_expect_eq(mcs_memory_free_under(root), 0);
    put("proc/meminfo", "MemAvailable:   10240 kB\n");
    put("proc/self/cgroup", "no colon\n7:memory\n5:cpu,memories:/a\n0::/\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "1\n");
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "0\n");
    put("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1\n");
    put("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "0\n");
    cr_expect_eq(mcs_memory_free_under(root), 10 * MIB, "memory is not limited by version 1");
    put("sys/fs/cgroup/memory.max", "2097152\n");
    cr_expect_eq(mcs_memory_free_under(root), 10 * MIB, "its use is unknown");
    put("sys/fs/cgroup/memory.current", "1048576\n");
    cr_expect_eq(mcs_memory_free_under(root), MIB, "the group above all");
    put("sys/fs/cgroup/memory.max", "0\n");
    put("sys/fs/cgroup/memory.current", "0\n");
    cr_expect_eq(mcs_memory_free_under(root), 0);
}

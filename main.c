/* mcsam VERB [OPTION]...: the verb table, signals, and the only place where a status becomes an exit code. */
#include "data/io/file.h"
#include "data/run/run_folder.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/base/path.h"
#include "engine/base/stop.h"
#include "engine/base/text_cut.h"
#include "engine/cli/config.h"
#include "engine/devices.h"
#include "engine/tape/exec.h"

#include <limits.h>
#include <omp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VERB(name) extern const struct mcs_verb mcs_verb_##name;
#include "verbs.def"
#undef VERB

static enum mcs_status run_devices(const void *options);
static const struct mcs_verb verb_devices = {
    .name = "devices", .line = "what can compute here", .options_bytes = sizeof(struct mcs_common), .run = run_devices};

static const struct mcs_verb *const verbs[] = {
    &verb_devices,
#define VERB(name) &mcs_verb_##name,
#include "verbs.def"
#undef VERB
};
enum { N_VERBS = sizeof verbs / sizeof *verbs };

/* The order in `mcsam --help`; verbs that are not listed come last, listed names without a verb are ignored. */
static const struct {
    const char *title, *names;
} groups[] = {
    {"Everything at once", "demo segment"},
    {"From text to mask", "finetune retrieve embed saliency coarse sam automask"},
    {"Weak supervision", "dataset plan preprocess train predict ensemble uncertainty"},
    {"Results", "evaluate report diff replay"},
    {"The program itself", "bench info convert devices"},
};
enum { N_GROUPS = sizeof groups / sizeof *groups };

static const struct mcs_verb *find_verb(const char *name)
{
    for (int i = 0; i < N_VERBS; i++)
        if (strcmp(verbs[i]->name, name) == 0) return verbs[i];
    return NULL;
}

/* The position of a verb in a group's names, or NULL. */
static const char *in_group(const char *names, const char *name)
{
    const size_t n = strlen(name);
    for (const char *at = names; (at = strstr(at, name)); at += n)
        if ((at == names || at[-1] == ' ') && (at[n] == ' ' || !at[n])) return at;
    return NULL;
}

/* The verbs of group g in the order of its names; for g == N_GROUPS: those in no group. Returns their number. */
static int verbs_of(int g, const struct mcs_verb *in[N_VERBS])
{
    int n = 0;
    for (int i = 0; i < N_VERBS; i++) {
        int group = 0, at = n;
        while (group < N_GROUPS && !in_group(groups[group].names, verbs[i]->name)) group++;
        if (group != g) continue;
        for (; at > 0 && g < N_GROUPS &&
               in_group(groups[g].names, in[at - 1]->name) > in_group(groups[g].names, verbs[i]->name);
             at--)
            in[at] = in[at - 1];
        in[at] = verbs[i];
        n++;
    }
    return n;
}

static void print_help(FILE *f)
{
    fprintf(f, "mcsam " MCS_VERSION ": from a text prompt to a mask on medical images\n\n"
               "Usage: mcsam VERB [OPTION]...\n"
               "       mcsam VERB --help\n");
    for (int g = 0; g <= N_GROUPS; g++) {
        const struct mcs_verb *in[N_VERBS];
        const int n = verbs_of(g, in);
        if (n) fprintf(f, "\n%s:\n", g < N_GROUPS ? groups[g].title : "Others");
        for (int i = 0; i < n; i++) fprintf(f, "  %-12s %s\n", in[i]->name, in[i]->line);
    }
    fprintf(
        f, "\nExit codes: 0 done, 1 failed, 2 wrong use, 3 done but some cases failed, 65 bad data, 66 missing input,\n"
           "69 no such device, 74 input/output error, 75 stopped early: the same command goes on.\n");
}

static enum mcs_status unknown_verb(const char *name)
{
    const struct mcs_verb *best = verbs[0];
    for (int i = 1; i < N_VERBS; i++)
        if (mcs_edit_distance(name, verbs[i]->name) < mcs_edit_distance(name, best->name)) best = verbs[i];
    return MCS_FAIL(MCS_E_USAGE, "unknown verb '%s'; did you mean '%s'? (mcsam --help lists all)", name, best->name);
}

/* Prints a JSON string. */
static void print_quoted(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') putchar('\\');
        putchar((unsigned char)*text < ' ' ? ' ' : *text);
    }
    putchar('"');
}

/* A line per GPU, or one with the reason why there is none. */
static void list_gpus(enum mcs_device_kind kind, const char *name, int json)
{
    int n = 0;
    char text[700];
    const enum mcs_status st = mcs_device_count(kind, &n);
    if (json) printf(", \"%s\": [", name);
    for (int i = 0; st == MCS_OK && i < n; i++) {
        const int usable = mcs_device_describe(kind, i, text, sizeof text) == MCS_OK;
        if (!usable) mcs_text_cut(text, sizeof text, "not usable: %s", mcs_error_message());
        mcs_error_clear();
        if (json)
            printf("%s", i ? ", " : ""), print_quoted(text);
        else
            printf("%-8s %d: %s\n", name, i, text);
    }
    if (json) printf("]");
    if (json && st != MCS_OK) printf(", \"no_%s\": ", name), print_quoted(mcs_error_message());
    if (!json && st != MCS_OK) printf("%-8s none: %s\n", name, mcs_error_message());
    mcs_error_clear();
}

static enum mcs_status run_devices(const void *options)
{
    const struct mcs_common *c = options;
    /* The instruction sets for the CPU backend's run-time dispatch. */
    const struct {
        const char *name;
        int has;
    } sets[] = {
#if defined(__x86_64__)
        {"sse4.2", __builtin_cpu_supports("sse4.2")},
        {"avx2", __builtin_cpu_supports("avx2")},
        {"fma", __builtin_cpu_supports("fma")},
        {"avx512f", __builtin_cpu_supports("avx512f")},
        {"avx512bw", __builtin_cpu_supports("avx512bw")},
        {"avx512vnni", __builtin_cpu_supports("avx512vnni")},
        {"avx512bf16", __builtin_cpu_supports("avx512bf16")},
#endif
        {NULL, 0},
    };
    char list[256] = "";
    size_t used = 0;
    for (int i = 0; sets[i].name; i++)
        if (sets[i].has)
            used += (size_t)snprintf(list + used, sizeof list - used, c->json ? "%s\"%s\"" : "%s%s",
                                     used ? c->json ? ", " : " " : "", sets[i].name);
    if (c->json)
        printf("{\"cpu\": {\"cores\": %d, \"threads\": %lld, \"instruction_sets\": [%s]}", omp_get_num_procs(),
               (long long)c->device.threads, list);
    else
        printf("cpu      %d cores, %lld threads, %s\n", omp_get_num_procs(), (long long)c->device.threads,
               used ? list : "no vector sets");
    list_gpus(MCS_DEVICE_CUDA, "cuda", c->json);
    list_gpus(MCS_DEVICE_CUDASIM, "cudasim", c->json);
    if (c->json) puts("}");
    return MCS_OK;
}

enum { MAX_INPUTS = 256 };

/* Adds a text where it names an existing file or folder. */
static void add_if_path(struct run_input in[MAX_INPUTS], int *n, const char *option, const char *text)
{
    if (text && *n < MAX_INPUTS && (mcs_file_exists(text) || mcs_folder_exists(text)))
        in[(*n)++] = (struct run_input){option, text, ""};
}

/* E_USAGE where the file of --trace would overwrite a file named by an option or an argument. */
static enum mcs_status check_trace(const struct mcs_common *common)
{
    struct run_input in[MAX_INPUTS];
    char folder[MCS_PATH_BYTES];
    const char *name;
    int n = 0;
    add_if_path(in, &n, "--config", common->config);
    for (int i = 0; i < common->args.n; i++) add_if_path(in, &n, common->verb->name, common->args.v[i]);
    for (const struct mcs_option *o = common->verb->options; o && o->name; o++) {
        const void *field = (const char *)common + o->offset;
        if (!strcmp(o->name, "output")) continue;
        if (o->type == MCS_OPT_STRING) add_if_path(in, &n, o->name, *(const char *const *)field);
        if (o->type != MCS_OPT_LIST) continue;
        const struct mcs_strings *list = field;
        for (int i = 0; i < list->n; i++) add_if_path(in, &n, o->name, list->v[i]);
    }
    MCS_TRY(mcs_path_split(common->trace, folder, &name));
    return mcs_run_check_paths(&common->command, &(struct run_output){folder, name}, 1, in, n);
}

static enum mcs_status run_verb(const struct mcs_verb *v, int argc, char **argv, struct arena *arena)
{
    struct mcs_common *common = mcs_arena_alloc(arena, v->options_bytes);
    MCS_TRY(mcs_arena_status(arena));
    MCS_TRY(mcs_config_parse(v, argc, argv, arena, common));
    if (common->help) {
        fputs(mcs_config_help(v, arena), stdout);
        return MCS_OK;
    }
    int64_t max_memory = 0;
    if (common->max_memory) MCS_TRY(mcs_memory_parse(common->max_memory, "--max-memory", &max_memory));
    mcs_memory_limit_set(max_memory);
    MCS_TRY(mcs_device_check(&common->device));
    mcs_log_quiet(common->quiet);
    if (common->device.threads) omp_set_num_threads((int)common->device.threads);
    common->device.threads = omp_get_max_threads();
    common->command = mcs_config_command(common, arena);
    MCS_TRY(mcs_arena_status(arena));
    if (!common->trace) return v->run(common);
    MCS_TRY(check_trace(common));
    MCS_TRY(mcs_exec_trace_open(common->trace));
    const enum mcs_status st = v->run(common), traced = mcs_exec_trace_close();
    return st != MCS_OK ? st : traced;
}

static enum mcs_status run_line(int argc, char **argv, struct arena *arena)
{
    if (argc < 2) {
        print_help(stderr);
        return MCS_FAIL(MCS_E_USAGE, "no verb given");
    }
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0) {
        puts("mcsam " MCS_VERSION);
        return MCS_OK;
    }
    const int help = strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0;
    if (help && argc == 2) {
        print_help(stdout);
        return MCS_OK;
    }
    MCS_REQUIRE(help || name[0] != '-', MCS_E_USAGE,
                "the verb comes first: mcsam VERB %s (mcsam --help lists the verbs)", name);
    const struct mcs_verb *v = find_verb(help ? argv[2] : name);
    if (!v) return unknown_verb(help ? argv[2] : name);
    if (help) {
        fputs(mcs_config_help(v, arena), stdout);
        return MCS_OK;
    }
    return run_verb(v, argc - 2, argv + 2, arena);
}

/* By default OpenMP's threads spin while they wait for each other. On a shared machine, a thread that is descheduled
 * then costs all others their time slice: a training step took five times as long. Sleeping instead costs some
 * microseconds. The library reads its environment when it is loaded, so the program executes itself again; a policy set
 * by the user is kept. */
static void wait_asleep(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    if (setenv("OMP_WAIT_POLICY", "passive", 1) == 0) execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    struct arena arena = {0};
    wait_asleep(argv);
    mcs_stop_install();
    signal(SIGXFSZ, SIG_IGN); /* then a write beyond the limit on file sizes fails with EFBIG, which is reported */
    enum mcs_status st = run_line(argc, argv, &arena);
    if (fflush(stdout) != 0 && st == MCS_OK) st = MCS_FAIL(MCS_E_IO, "cannot write to standard output");
    if (st != MCS_OK) {
        const char *message = mcs_error_message();
        fprintf(stderr, "mcsam: %s: %s\n", st == MCS_E_STOPPED || st == MCS_E_PARTIAL ? "warning" : "error",
                *message ? message : mcs_status_text(st));
        if (getenv("MCSAM_TRACE_ERRORS")) fprintf(stderr, "mcsam: trace: %s\n", mcs_error_trace());
    }
    mcs_arena_free(&arena);
    return mcs_exit_code(st);
}

/* Files of weights that are damaged or were made to do harm: each is refused with a message that says what and where.
 */
#include "data/io/file.h"
#include "data/weights/weight_file.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_weights.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *path;

static void setup(void)
{
    test_folder_open("weight_hostile");
    path = in_folder("w.pt");
}

TestSuite(weight_hostile, .init = setup, .fini = test_folder_close);

static const float floats[4] = {1, 2, 3, 4};

static enum mcs_status open_made(const struct made_file *m)
{
    struct weight_file *f;
    made_save(m, path);
    mcs_error_clear();
    const enum mcs_status st = mcs_weight_file_open(path, &f);
    mcs_weight_file_close(f);
    return st;
}

static void expect_refused(const struct made_file *m, const char *what, const char *message)
{
    cr_expect_eq(open_made(m), MCS_E_DATA, "%s", what);
    cr_expect(strstr(mcs_error_message(), path) && strstr(mcs_error_message(), message), "%s: %s", what,
              mcs_error_message());
}

/* A pickle in a zip. */
static void refused_pickle(const char *what, const void *pickle, size_t n, const char *message)
{
    static struct made_file m;
    made_torch(&m, pickle, n, 4, floats);
    expect_refused(&m, what, message);
}

Test(weight_hostile, the_whole_one_is_read)
{
    static struct made_file m;
    char pickle[1024];
    made_torch(&m, pickle, made_pickle(NULL, 0, NULL, 0, pickle), 4, floats);
    cr_assert_eq(open_made(&m), MCS_OK, "%s", mcs_error_message());
}

#define TEXT(s) s, sizeof(s) - 1

/* Nothing of a pickle is run: the file that os.system would make is not there. */
Test(weight_hostile, functions_are_refused_by_name)
{
    char pickle[1024], run[1024], made[600];
    snprintf(made, sizeof made, "%s/made", test_folder);
    const int n = snprintf(run, sizeof run,
                           "\x80\x02"
                           "cos\nsystem\n(X%c%c%c%ctouch %stR.",
                           (int)strlen(made) + 6, 0, 0, 0, made);
    refused_pickle("os.system", run, (size_t)n,
                   "names os.system, which no weights need: refused, nothing of the file was run");
    cr_expect(!mcs_file_exists(made));
    refused_pickle("builtins.eval",
                   TEXT("\x80\x02"
                        "cbuiltins\neval\n."),
                   "names builtins.eval");
    refused_pickle("posix.system",
                   TEXT("\x80\x02"
                        "cposix\nsystem\n."),
                   "names posix.system");
    refused_pickle("a name that ends early",
                   TEXT("\x80\x02"
                        "c"),
                   "truncated");
    refused_pickle("a storage type called",
                   TEXT("\x80\x02"
                        "ctorch\nFloatStorage\n)R."),
                   "FloatStorage is called");
    refused_pickle("control characters",
                   TEXT("\x80\x02"
                        "cos\x1b[31m\nx\n."),
                   "names os\\x1b[31m.x");
    const size_t k =
        made_pickle(TEXT("torch._utils\n_rebuild_tensor_v2"), TEXT("torch._utils\n_rebuild_tensor_v9"), pickle);
    refused_pickle("an unknown tensor", pickle, k, "names torch._utils._rebuild_tensor_v9");
    static struct made_file m; /* in a legacy file, instead of the object */
    m.n = 0;
    made_add(&m, TEXT("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."));
    made_add(&m, TEXT("\x80\x02M\xe9\x03.\x80\x02}X\x0d\0\0\0little_endian\x88s.\x80\x02"
                      "cos\nsystem\n."));
    expect_refused(&m, "legacy os.system", "names os.system");
}

/* TorchScript's classes are dictionaries, in TorchScript's archives alone; other names stay refused there. */
Test(weight_hostile, torch_script)
{
    static const struct {
        const char *what, *pickle;
        size_t n;
        const char *message;
    } bad[] = {
        {"os.system",
         TEXT("\x80\x02"
              "cos\nsystem\n)\x81."),
         "names os.system, which no weights need"},
        {"a name like a class",
         TEXT("\x80\x02"
              "c__torch__x\nM\n)\x81."),
         "names __torch__x.M, which no weights need"},
        {"a storage as a class",
         TEXT("\x80\x02"
              "ctorch\nFloatStorage\n)\x81."),
         "an object of a name"},
        {"an object of None", TEXT("\x80\x02N)\x81."), "an object of None"},
        {"a class with arguments",
         TEXT("\x80\x02"
              "c__torch__.m\nM\nN\x85\x81."),
         "an object of a name"},
        {"NEWOBJ of nothing", TEXT("\x80\x02)\x81."), "too few values for NEWOBJ"},
        {"a class called",
         TEXT("\x80\x02"
              "c__torch__\nM\n)R."),
         "__torch__ is called"},
        {"its own state",
         TEXT("\x80\x02"
              "c__torch__\nM\n)\x81q\0h\0b."),
         "an object that is its own state"},
        {"a state that is no dictionary",
         TEXT("\x80\x02"
              "c__torch__\nM\n)\x81K\1b."),
         "gets the state an int"},
        {"a module in itself",
         TEXT("\x80\x02"
              "c__torch__\nM\n)\x81q\0}X\1\0\0\0ah\0sb."),
         "a dict contains itself"},
        {"a list of nothing",
         TEXT("\x80\x02"
              "ctorch.jit._pickle\nbuild_intlist\n)R."),
         "build_intlist without a value"},
        {"no module", TEXT("\x80\x02]."), "TorchScript of a list"},
        {"no tensors",
         TEXT("\x80\x02"
              "c__torch__.m\nM\n)\x81}b."),
         "TorchScript without tensors"},
    };
    static struct made_file m;
    struct made_entry e[] = {{"x/data.pkl", NULL, 0}, {"x/data/0", floats, 16}, {"x/constants.pkl", "\x80\2).", 4}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        e[0].bytes = bad[i].pickle;
        e[0].n = bad[i].n;
        made_zip(&m, 3, e);
        expect_refused(&m, bad[i].what, bad[i].message);
    }
    static const char class[] = "\x80\x02"
                                "c__torch__.m\nM\n)\x81}b.";
    e[0].bytes = class;
    e[0].n = sizeof class - 1;
    made_zip(&m, 2, e);
    expect_refused(&m, "a class in another file", "names __torch__.m.M, which no weights need");
    e[2].name = "y/constants.pkl";
    made_zip(&m, 3, e);
    expect_refused(&m, "constants of another folder", "names __torch__.m.M, which no weights need");
}

Test(weight_hostile, opcodes)
{
    static const struct {
        const char *what, *pickle;
        size_t n;
        const char *message;
    } bad[] = {
        {"INST", TEXT("\x80\x02(ios\nsystem\n."), "opcode 0x69"},
        {"STACK_GLOBAL", TEXT("\x80\x02\x93."), "opcode 0x93"},
        {"NEWOBJ", TEXT("\x80\x02)\x81."), "opcode 0x81"},
        {"EXT1", TEXT("\x80\x02\x82\1."), "opcode 0x82"},
        {"protocol 4", TEXT("\x80\x04}."), "protocol 4"},
        {"empty", TEXT(""), "truncated"},
        {"no STOP", TEXT("\x80\x02}"), "truncated"},
        {"two values", TEXT("\x80\x02}}."), "ends with 2 values"},
        {"no value", TEXT("\x80\x02."), "ends with 0 values"},
        {"a tuple of nothing", TEXT("\x80\x02(t."), "its object is a tuple"},
        {"a mark left", TEXT("\x80\x02}(."), "damaged"},
        {"APPEND under a mark", TEXT("\x80\x02](Na."), "too few values for APPEND"},
        {"SETITEMS without a mark", TEXT("\x80\x02}u."), "without a mark"},
        {"SETITEMS, three values", TEXT("\x80\x02}(NNNu."), "SETITEMS for a dict"},
        {"APPENDS to a dict", TEXT("\x80\x02}(Ne."), "APPENDS for a dict"},
        {"TUPLE3 of one", TEXT("\x80\x02N\x87."), "too few values for TUPLE"},
        {"REDUCE of a list", TEXT("\x80\x02])R."), "a list is called with a tuple"},
        {"a memo that is not there", TEXT("\x80\x02h\7."), "no memo 7"},
        {"a memo far away", TEXT("\x80\x02Nr\xff\xff\xff\xff."), "memo 4294967295 after 0"},
        {"a text of 4 GiB", TEXT("\x80\x02X\xff\xff\xff\xff."), "truncated"},
        {"BUILD of a list", TEXT("\x80\x02]}b."), "gets the state"},
        {"BINPERSID of a text", TEXT("\x80\x02X\1\0\0\0aQ."), "want (\"storage\""},
        {"no dictionary", TEXT("\x80\x02]."), "its object is a list"},
        {"no tensors", TEXT("\x80\x02}X\1\0\0\0aK\1s."), "none of the 1 values"},
        {"a list in itself", TEXT("\x80\x02}X\1\0\0\0a]q\0h\0as."), "a list contains itself"},
        {"a dict in itself", TEXT("\x80\x02}q\0X\1\0\0\0ah\0s."), "a dict contains itself"},
        {"a dtype of another order",
         TEXT("\x80\x02"
              "cnumpy\ndtype\nX\2\0\0\0f8\x85R(K\3X\1\0\0\0>tb."),
         "another byte order"},
        {"a numpy scalar too short",
         TEXT("\x80\x02"
              "cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\2\0\0\0f8\x85RX\1\0\0\0a\x86R."),
         "a numpy scalar"},
        {"a numpy scalar of objects",
         TEXT("\x80\x02"
              "cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\2\0\0\0O8\x85RX\1\0\0\0a\x86R."),
         "type O8"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused_pickle(bad[i].what, bad[i].pickle, bad[i].n, bad[i].message);
}

/* Few bytes that stand for many values: 40 lists, each twice the one before; lists 1,000 deep. */
Test(weight_hostile, expansion_and_depth)
{
    char pickle[4096] = "\x80\x02(]q"; /* and memo 0 */
    size_t n = 6;
    for (int i = 0; i < 40; i++) { /* a list of the one before, twice */
        const char part[] = {']', '(', 'h', (char)i, 'h', (char)i, 'e', 'q', (char)(i + 1)};
        memcpy(pickle + n, part, sizeof part);
        n += sizeof part;
    }
    pickle[n++] = 't';
    pickle[n++] = '.';
    refused_pickle("a billion laughs", pickle, n, "expand to more than");
    n = 2;
    for (int i = 0; i < 1000; i++) pickle[n++] = ']';
    for (int i = 1; i < 1000; i++) pickle[n++] = 'a';
    pickle[n++] = '.';
    refused_pickle("1,000 levels", pickle, n, "nested deeper than");
}

Test(weight_hostile, tensors)
{
    static const struct {
        const char *what, *from;
        size_t from_n;
        const char *to;
        size_t to_n;
        const char *message;
    } bad[] = {
        {"more sizes than strides", TEXT("(K\2K\2t(K\2K\1t"), TEXT("(K\2K\2K\1t(K\2K\1t"), "damaged tensor"},
        {"a negative stride", TEXT("t(K\2K\1t"), TEXT("t(J\xff\xff\xff\xffK\1t"), "damaged tensor"},
        {"a negative offset", TEXT("QK\0("), TEXT("QJ\xff\xff\xff\xff("), "damaged tensor"},
        {"beyond its storage", TEXT("QK\0("), TEXT("QK\1("), "lies outside its storage 0 of 4 elements"},
        {"a stride too large", TEXT("t(K\2K\1t"), TEXT("t(K\4K\1t"), "lies outside its storage"},
        {"sizes that overflow", TEXT("(K\2K\2t(K\2"),
         TEXT("(\x8a\x08\0\0\0\0\0\0\0\x40\x8a\x08\0\0\0\0\0\0\0\x40t(K\0"), "lies outside its storage"},
        {"a storage of another size", TEXT("cpuK\4t"), TEXT("cpuK\5t"), "storage 0 has 16 bytes, want 20"},
        {"a storage of another type", TEXT("FloatStorage"), TEXT("HalfStorage"), "storage 0 has 16 bytes, want 8"},
        {"a storage that is not there",
         TEXT("X\1\0\0\0"
              "0X"),
         TEXT("X\1\0\0\0"
              "7X"),
         "the file has no storage 7"},
        {"a storage with a path",
         TEXT("X\1\0\0\0"
              "0X"),
         TEXT("X\4\0\0\0../0X"), "the file has no storage ../0"},
        {"a name that is a number", TEXT("X\1\0\0\0a"), TEXT("K\1"), "the name of a tensor is an int"},
        {"a name with a NUL", TEXT("X\1\0\0\0a"), TEXT("X\1\0\0\0\0"), "the name of a tensor is a str"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char pickle[1024];
        const size_t n = made_pickle(bad[i].from, bad[i].from_n, bad[i].to, bad[i].to_n, pickle);
        refused_pickle(bad[i].what, pickle, n, bad[i].message);
    }
}

static void expect_made_sound(const struct made_file *m)
{
    struct weight_file *f;
    made_save(m, path);
    cr_assert_eq(mcs_weight_file_open(path, &f), MCS_OK);
    cr_expect_eq(mcs_weight_file_verify(f), MCS_OK, "%s", mcs_error_message());
    mcs_weight_file_close(f);
}

Test(weight_hostile, archives)
{
    static struct made_file m;
    char pickle[1024];
    const size_t n = made_pickle(NULL, 0, NULL, 0, pickle);
    const struct made_entry good[] = {{"x/data.pkl", pickle, n}, {"x/data/0", floats, 16}},
                            big[] = {good[0], good[1], {"x/byteorder", "big", 3}},
                            two[] = {good[0], good[1], {"y/data.pkl", pickle, n}},
                            twice[] = {good[0], good[1], good[1]}, other[] = {{"word/document.xml", "<x>", 3}};
    made_zip(&m, 3, big);
    expect_refused(&m, "big-endian", "its byteorder is big, want little");
    made_zip(&m, 3, two);
    expect_refused(&m, "two objects", "has two objects");
    made_zip(&m, 3, twice);
    expect_refused(&m, "an entry twice", "x/data/0 twice");
    made_zip(&m, 1, other);
    expect_refused(&m, "another archive", "without data.pkl");
    made_zip(&m, 2, good);
    const size_t local = 30 + 10 + n, central = m.n - 22 - (46 + 8), first = central - (46 + 10);
    cr_assert(memcmp(m.v + local, "PK\3\4", 4) == 0 && memcmp(m.v + central, "PK\1\2", 4) == 0);
    struct made_file *c = malloc(sizeof *c);
    cr_assert(c);
    memcpy(c, &m, sizeof m);
    c->v[central + 42] = 0; /* the second entry's header is the first one's */
    c->v[central + 43] = 0;
    expect_refused(c, "overlapping", "overlaps another entry");
    memcpy(c, &m, sizeof m);
    c->v[central + 20] = c->v[central + 24] = 200; /* reaches into the directory */
    expect_refused(c, "too long", "lies outside the file");
    memcpy(c, &m, sizeof m);
    c->v[central + 10] = c->v[local + 8] = 8;
    expect_refused(c, "deflated", "compressed");
    memcpy(c, &m, sizeof m);
    c->v[central + 10] = 8;
    expect_refused(c, "deflated by the directory alone", "differs from the directory");
    memcpy(c, &m, sizeof m);
    c->v[central + 8] = 1;
    expect_refused(c, "encrypted", "encrypted");
    memcpy(c, &m, sizeof m);
    c->v[local + 30] = 'y';
    expect_refused(c, "another local name", "differs from the directory");
    memcpy(c, &m, sizeof m);
    c->v[first + 20] = c->v[first + 24] = (uint8_t)(n - 1);
    expect_refused(c, "a shorter object", "checksum");
    memcpy(c, &m, sizeof m);
    memset(c->v + central + 20, 0xff, 8); /* sizes in a zip64 field that is not there */
    expect_refused(c, "zip64 without a field", "damaged zip: sizes of x/data/0");
    memcpy(c, &m, sizeof m);
    memset(c->v + c->n - 22 + 10, 0xff, 2); /* 65535 entries: zip64 records are expected */
    expect_refused(c, "zip64 without a record", "no zip64 record");
    memcpy(c, &m, sizeof m);
    memset(c->v + first + 16, 0, 4); /* torch.serialization.set_crc32_options(False) */
    cr_expect_eq(open_made(c), MCS_OK, "%s", mcs_error_message());
    memcpy(c, &m, sizeof m);
    c->v[local + 30 + 8] ^= 1; /* a tensor's byte: found when it is asked for */
    struct weight_file *f;
    cr_expect_eq(open_made(c), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_weight_file_open(path, &f), MCS_OK);
    fails_with(mcs_weight_file_verify(f), MCS_E_DATA, "the checksum of x/data/0 differs");
    mcs_weight_file_close(f);
    expect_made_sound(&m);
    for (size_t cut = 4; cut < m.n; cut++) {
        memcpy(c, &m, sizeof m);
        c->n = cut;
        cr_expect_eq(open_made(c), MCS_E_DATA, "%zu of %zu bytes were taken", cut, m.n);
    }
    free(c);
}

/* Each bit of golden files flipped in turn: read or refused, never out of bounds (the sanitizer build watches). */
static void flip_and_cut(const char *name, int64_t step)
{
    char *bytes;
    int64_t n;
    static struct made_file m;
    int refused = 0;
    cr_assert_eq(mcs_file_read(name, 1 << 16, &bytes, &n), MCS_OK);
    m.n = (size_t)n;
    memcpy(m.v, bytes, (size_t)n);
    for (int64_t at = 0; at < n; at += step) {
        m.v[at] ^= (uint8_t)(1 << at % 8);
        refused += open_made(&m) != MCS_OK;
        m.v[at] ^= (uint8_t)(1 << at % 8);
    }
    cr_expect_gt(refused, 0);
    for (int64_t cut = 0; cut < n; cut += 7 * step) {
        m.n = (size_t)cut;
        cr_expect_eq(open_made(&m), MCS_E_DATA, "%d of %d bytes of %s were taken", (int)cut, (int)n, name);
    }
    free(bytes);
    mcs_error_clear();
}

Test(weight_hostile, flipped_and_cut)
{
    flip_and_cut(MCS_SOURCE_DIR "/tests/golden/weights/types.pt", 3);
    flip_and_cut(MCS_SOURCE_DIR "/tests/golden/weights/types_legacy.pt", 1);
    flip_and_cut(MCS_SOURCE_DIR "/tests/golden/weights/epoch_2.pt", 3);
    flip_and_cut(MCS_SOURCE_DIR "/tests/golden/weights/nnunet_legacy.pth", 5);
}

Test(weight_hostile, legacy)
{
    static struct made_file m;
    static const char magic[] = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    char pickle[1024];
    const size_t n = made_pickle(NULL, 0, NULL, 0, pickle);
    static const struct {
        const char *what, *version, *machine;
        size_t machine_n;
        const char *keys;
        size_t keys_n;
        int64_t count;
        size_t rest;
        const char *message;
    } cases[] = {
        {"good", "\xe9\x03", TEXT("}X\x0d\0\0\0little_endian\x88s."),
         TEXT("]X\1\0\0\0"
              "0a."),
         4, 16, NULL},
        {"version", "\xea\x03", TEXT("}X\x0d\0\0\0little_endian\x88s."),
         TEXT("]X\1\0\0\0"
              "0a."),
         4, 16, "protocol is not 1001"},
        {"big-endian", "\xe9\x03", TEXT("}X\x0d\0\0\0little_endian\x89s."),
         TEXT("]X\1\0\0\0"
              "0a."),
         4, 16, "big-endian"},
        {"no key", "\xe9\x03", TEXT("}."), TEXT("]."), 4, 16, "its list of storages has no 0"},
        {"another key", "\xe9\x03", TEXT("}."),
         TEXT("](X\1\0\0\0"
              "0X\1\0\0\0"
              "1e."),
         4, 16, "storage 1 has no tensor"},
        {"a key twice", "\xe9\x03", TEXT("}."),
         TEXT("](X\1\0\0\0"
              "0X\1\0\0\0"
              "0e."),
         4, 16, "damaged"},
        {"keys no list", "\xe9\x03", TEXT("}."), TEXT("}."), 4, 16, "list of storages is a dict"},
        {"a key no text", "\xe9\x03", TEXT("}."), TEXT("]K\1a."), 4, 16, "list of storages has an int"},
        {"another length", "\xe9\x03", TEXT("}."),
         TEXT("]X\1\0\0\0"
              "0a."),
         3, 12, "want 16"},
        {"a length below 0", "\xe9\x03", TEXT("}."),
         TEXT("]X\1\0\0\0"
              "0a."),
         -1, 16, "lies outside the file"},
        {"a huge length", "\xe9\x03", TEXT("}."),
         TEXT("]X\1\0\0\0"
              "0a."),
         (int64_t)1 << 62, 16, "lies outside the file"},
        {"cut", "\xe9\x03", TEXT("}."),
         TEXT("]X\1\0\0\0"
              "0a."),
         4, 15, "lies outside the file"},
        {"more", "\xe9\x03", TEXT("}."),
         TEXT("]X\1\0\0\0"
              "0a."),
         4, 17, "1 bytes after the last storage"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        m.n = 0;
        made_add(&m, TEXT(magic));
        made_text(&m, "\x80\x02M");
        made_text(&m, cases[i].version);
        made_text(&m, ".\x80\x02");
        made_add(&m, cases[i].machine, cases[i].machine_n);
        made_add(&m, pickle, n);
        made_text(&m, "\x80\x02");
        made_add(&m, cases[i].keys, cases[i].keys_n);
        made_little(&m, (uint64_t)cases[i].count, 8);
        for (size_t k = 0; k < cases[i].rest; k++) made_add(&m, "\0", 1);
        if (cases[i].message)
            expect_refused(&m, cases[i].what, cases[i].message);
        else
            cr_expect_eq(open_made(&m), MCS_OK, "%s", mcs_error_message());
    }
}

Test(weight_hostile, other_files_are_named)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *message;
    } cases[] = {
        {TEXT("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"), "git lfs pull"},
        {TEXT("<!DOCTYPE html><html>"), "a web page"},
        {TEXT("\x1f\x8b\x08"), "gunzip"},
        {TEXT("hello, this is no file of weights\x80"), "want a safetensors file"},
        {TEXT("\x08\x03\x12\x07pytorch"), "no file of weights"},
        {TEXT("\r\n  <!DOCTYPE html>"), "is a web page"},
        {TEXT("Entry not found\n"), "is a text (Entry not found), no weights: the download did not give the file"},
        {TEXT("{\"error\":\"Repository not found\"}"), "is a text ({\"error\":\"Repository not found\"}), no weights"},
        {TEXT(""), "is empty: the download did not give the file"},
    };
    static struct made_file m;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        m.n = 0;
        made_add(&m, cases[i].bytes, cases[i].n);
        expect_refused(&m, cases[i].message, cases[i].message);
    }
}

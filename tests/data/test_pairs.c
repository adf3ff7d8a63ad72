/* Image-caption tables, matching by stem and prompts.json: rows that are read, rows that are left out, and each kind of
 * bad input. */
#include "data/io/file.h"
#include "data/text/pairs.h"
#include "data/text/prompts.h"
#include "engine/base/log.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static const char *put(const char *name, const char *bytes)
{
    const char *path = in_folder(name);
    cr_assert_eq(mcs_file_write(path, bytes, (int64_t)strlen(bytes)), MCS_OK, "%s", mcs_error_message());
    return path;
}

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/mcs_pairs_XXXXXX");
    cr_assert(mkdtemp(folder));
    mkdir(in_folder("images"), 0777);
    mcs_log_quiet(1);
}

static void clear(const char *path)
{
    struct file_list list;
    char full[512];
    if (mcs_folder_list(path, NULL, &list) != MCS_OK) return;
    for (int i = 0; i < list.n; i++) {
        snprintf(full, sizeof full, "%s/%s", path, list.names[i]);
        unlink(full);
    }
    mcs_file_list_free(&list);
    rmdir(path);
}

static void teardown(void)
{
    clear(in_folder("images"));
    clear(folder);
}

TestSuite(pairs, .init = setup, .fini = teardown);

#define SAYS(part) cr_expect(strstr(mcs_error_message(), part), "\"%s\" does not say \"%s\"", mcs_error_message(), part)

Test(pairs, csv_quotes_line_ends_and_bom)
{
    struct csv_table t;
    const char *path = put("t.csv", "\xEF\xBB\xBF"
                                    "a,\"b \"\"x\"\"\",c\r\n\r\n1,\"two\r\nlines, one field\",\n\"\",é,3\r,,");
    cr_assert_eq(mcs_csv_read(path, ',', &t), MCS_OK, "%s", mcs_error_message());
    static const char *const want[] = {"a", "b \"x\"", "c", "1", "two\r\nlines, one field", "", "", "é",
                                       "3", "",        "",  ""};
    cr_assert_eq(t.n_rows, 4);
    cr_assert_eq(t.n_columns, 3);
    for (int i = 0; i < 12; i++) cr_expect_str_eq(t.cells[i], want[i]);
    static const int lines[] = {1, 3, 5, 6};
    for (int i = 0; i < 4; i++) cr_expect_eq(t.lines[i], lines[i]);
    cr_expect_eq(mcs_csv_column(&t, "c"), 2);
    cr_expect_eq(mcs_csv_column(&t, "C"), -1);
    mcs_csv_free(&t);
    cr_assert_eq(mcs_csv_read(put("t.csv", "a\tb\n1,5\t2\n"), '\t', &t), MCS_OK);
    cr_expect_str_eq(t.cells[2], "1,5");
    mcs_csv_free(&t);
    cr_assert_eq(mcs_csv_read(put("t.csv", ""), ',', &t), MCS_OK);
    cr_expect_eq(t.n_rows, 0);
    mcs_csv_free(&t);
}

Test(pairs, csv_bad)
{
    static const struct {
        const char *bytes, *says;
    } bad[] = {
        {"a,b\n1,\"open\n2,3\n", "opened in line 2 is never closed"},
        {"a,b\n1,\"x\"y\n", "line 2: text after a closing quote"},
        {"a,b\n\"1\n1\",2\n1,2,3\n", "line 4 has 3 fields, the first line has 2"},
        {"a,b\n1\n", "line 2 has 1 fields"},
        {"a,b\n1,caf\xE9\n", "line 2 is not UTF-8"},
    };
    struct csv_table t;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_expect_eq(mcs_csv_read(put("t.csv", bad[i].bytes), ',', &t), MCS_E_DATA, "table %zu was taken", i);
        SAYS(bad[i].says);
        mcs_error_clear();
    }
    cr_assert_eq(mcs_file_write(in_folder("t.csv"), "a\n\0\n", 4), MCS_OK);
    cr_expect_eq(mcs_csv_read(in_folder("t.csv"), ',', &t), MCS_E_DATA);
    SAYS("line 2 holds a NUL");
    mcs_error_clear();
    cr_expect_eq(mcs_csv_read(in_folder("t.csv"), '"', &t), MCS_E_USAGE);
    mcs_error_clear();
    cr_expect_eq(mcs_csv_read(in_folder("none.csv"), ',', &t), MCS_E_NOINPUT);
    mcs_error_clear();
}

/* The header decides, unless the caller or a line "sep=" does; separators in quotes do not count. */
Test(pairs, csv_separators)
{
    static const struct {
        const char *bytes;
        char given;
        int columns, rows, line;
        const char *last;
    } tables[] = {
        {"a,b\n1,2\n", 0, 2, 2, 2, "2"},
        {"a;b\n1;x, y\n", 0, 2, 2, 2, "x, y"},
        {"a\tb\tc\n1\t2\t3;4\n", 0, 3, 2, 2, "3;4"},
        {"\"a;b;c\",d\n1,2\n", 0, 2, 2, 2, "2"},
        {"sep=;\r\na;b\r\n1;2,0\r\n", 0, 2, 2, 3, "2,0"},
        {"sep=;\na;b\n1;2\n", ',', 1, 2, 3, "1;2"},
        {"name\nx\n", 0, 1, 2, 2, "x"},
        {"\xFF\xFE"
         "a\0,\0b\0\n\0\xE9\0,\0\x3D\xD8\x00\xDE\n\0",
         0, 2, 2, 2, "\xF0\x9F\x98\x80"},
    };
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        struct csv_table t;
        const int64_t n = i == 7 ? 2 + 2 * 9 : (int64_t)strlen(tables[i].bytes);
        cr_assert_eq(mcs_file_write(in_folder("t.csv"), tables[i].bytes, n), MCS_OK);
        cr_assert_eq(mcs_csv_read(in_folder("t.csv"), tables[i].given, &t), MCS_OK, "%zu: %s", i, mcs_error_message());
        cr_assert(t.n_columns == tables[i].columns && t.n_rows == tables[i].rows, "%zu: %d x %d", i, t.n_rows,
                  t.n_columns);
        cr_expect_eq(t.lines[1], tables[i].line, "%zu", i);
        cr_expect_str_eq(t.cells[2 * t.n_columns - 1], tables[i].last, "%zu", i);
        mcs_csv_free(&t);
    }
    struct csv_table t;
    cr_assert_eq(mcs_file_write(in_folder("t.csv"), "\xFF\xFE\x00\xDC", 4), MCS_OK);
    cr_expect_eq(mcs_csv_read(in_folder("t.csv"), 0, &t), MCS_E_DATA, "a surrogate alone");
    SAYS("damaged UTF-16 at byte 2");
    mcs_error_clear();
    cr_assert_eq(mcs_file_write(in_folder("t.csv"), "\xFE\xFF\0a\0", 5), MCS_OK);
    cr_expect_eq(mcs_csv_read(in_folder("t.csv"), 0, &t), MCS_E_DATA);
    SAYS("odd number");
    mcs_error_clear();
    static const char *const words[] = {",", ";", "tab", "TAB", "\\t", "\t", NULL};
    static const char read_as[] = ",;\t\t\t\t";
    char c;
    for (int i = 0; i < 7; i++) {
        cr_assert_eq(mcs_csv_separator(words[i], &c), MCS_OK);
        cr_expect_eq(c, i < 6 ? read_as[i] : 0, "%d", i);
    }
    static const char *const wrong[] = {"", "\\", "|", "::", "t", "comma"};
    for (int i = 0; i < 6; i++) {
        cr_expect_eq(mcs_csv_separator(wrong[i], &c), MCS_E_USAGE, "%s", wrong[i]);
        mcs_error_clear();
    }
}

Test(pairs, rows_used_and_left_out)
{
    struct pairs p;
    put("images/a.png", "");
    put("images/b.nii.gz", "");
    put("images/c.png", "");
    put("images/stray.png", "");
    put("images/notes.txt", "");
    const char *table = put("t.csv", "n,filename,Caption\n"
                                     "1,images/a.png,  A \"scan\" of a lung\n"
                                     "2,images/missing.png,a caption of a missing image\n"
                                     "3,./images/b.nii.gz,\"brain, axial\"\n"
                                     "4,images/c.png,  \n"
                                     "5,,a caption without an image\n"
                                     "6,images/a.png,été\n"
                                     "7,images,a folder\n");
    cr_assert_eq(mcs_pairs_read(table, NULL, &p), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(p.n, 3);
    cr_expect_str_eq(p.v[0].image, in_folder("images/a.png"));
    cr_expect_str_eq(p.v[0].caption, "A \"scan\" of a lung");
    cr_expect_str_eq(p.v[1].caption, "brain, axial");
    cr_expect_str_eq(p.v[1].stem, "b");
    cr_expect_str_eq(p.v[2].stem, "a"); /* a second caption of one image */
    static const enum pair_fault faults[] = {MCS_PAIR_NO_IMAGE, MCS_PAIR_EMPTY_CAPTION, MCS_PAIR_NO_NAME,
                                             MCS_PAIR_NO_IMAGE};
    static const int lines[] = {3, 5, 6, 8};
    cr_assert_eq(p.n_left_out, 4);
    for (int i = 0; i < 4; i++) {
        cr_expect_eq(p.left_out[i].fault, faults[i]);
        cr_expect_eq(p.left_out[i].line, lines[i]);
        cr_expect(mcs_pair_fault_text(faults[i])[0]);
    }
    cr_expect_str_eq(p.left_out[0].name, in_folder("images/missing.png"));
    mcs_pairs_free(&p);

    /* other names, another separator, a folder of images, a minimum length: "été!" is 4 code points and 6 bytes */
    char images[128];
    snprintf(images, sizeof images, "%s", in_folder("images"));
    struct pairs_options o = {"file", "text", images, ';', 5};
    table = put("u.csv", "text;file\nété!;a.png\nétés!;c.png\n");
    cr_assert_eq(mcs_pairs_read(table, &o, &p), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(p.n, 1);
    cr_expect_str_eq(p.v[0].stem, "c");
    cr_assert_eq(p.n_left_out, 3);
    cr_expect_eq(p.left_out[0].fault, MCS_PAIR_SHORT_CAPTION);
    cr_expect_eq(p.left_out[1].fault, MCS_PAIR_NO_ROW);
    cr_expect_str_eq(p.left_out[1].name, in_folder("images/b.nii.gz"));
    cr_expect_str_eq(p.left_out[2].name, in_folder("images/stray.png"));
    mcs_pairs_free(&p);
}

Test(pairs, bad_tables)
{
    struct pairs p;
    put("images/a.png", "");
    put("a.jpg", "");
    /* two images of one stem: nothing is written for each, so that they are two images */
    cr_assert_eq(mcs_pairs_read(put("t.csv", "filename,Caption\nimages/a.png,x\na.jpg,y\n"), NULL, &p), MCS_OK);
    cr_expect_eq(p.n, 2);
    mcs_pairs_free(&p);
    cr_expect_eq(mcs_pairs_read(put("t.csv", "filename,caption\na.jpg,y\n"), NULL, &p), MCS_E_DATA);
    SAYS("no column \"Caption\"; it has 2: \"filename\", \"caption\"; name the right one by --caption-column");
    mcs_error_clear();
    const struct pairs_options comma = {.separator = ','};
    cr_expect_eq(mcs_pairs_read(put("t.csv", "filename;Caption\na.jpg;y\n"), &comma, &p), MCS_E_DATA);
    SAYS("no column \"filename\"; it has 1: \"filename;Caption\"; name the right one by --image-column, or the "
         "character");
    mcs_error_clear();
    cr_expect_eq(mcs_pairs_read(put("t.csv", ""), NULL, &p), MCS_E_DATA);
    SAYS("the table is empty");
    mcs_error_clear();
    cr_expect_eq(mcs_pairs_read(put("t.csv", "filename,Caption\nb.jpg,y\n"), NULL, &p), MCS_E_DATA);
    SAYS("no row can be used");
    SAYS("b.jpg: no such image");
    mcs_error_clear();
}

Test(pairs, prompts_round_trip_and_lookup)
{
    struct prompts p;
    const char *path = put(
        "p.json", "{\"*\": \"lungs\", \"12.png\": \"a glioma\", \"13\": [\"one\", \"deux é\"], \"14.png\": [\"x\"]}");
    for (int turn = 0; turn < 2; turn++) {
        cr_assert_eq(mcs_prompts_read(path, &p), MCS_OK, "%s", mcs_error_message());
        cr_assert_eq(p.n, 4);
        cr_expect_str_eq(p.v[2].texts[1], "deux é");
        cr_expect_str_eq(mcs_prompts_find(&p, "some/folder/12.png")->texts[0], "a glioma");
        cr_expect_str_eq(mcs_prompts_find(&p, "12.nii.gz")->texts[0], "a glioma");
        cr_expect_eq(mcs_prompts_find(&p, "13.png")->n, 2);
        cr_expect_str_eq(mcs_prompts_find(&p, "other.png")->texts[0], "lungs");
        path = in_folder("q.json");
        if (turn == 0) cr_assert_eq(mcs_prompts_write(path, &p), MCS_OK, "%s", mcs_error_message());
        if (turn == 0) mcs_prompts_free(&p);
    }
    const char *const more[] = {"y", "z"};
    cr_assert_eq(mcs_prompts_add(&p, "15.png", more, 2), MCS_OK);
    cr_expect_str_eq(mcs_prompts_find(&p, "15.png")->texts[1], "z");
    cr_expect_eq(mcs_prompts_add(&p, "15.png", more, 2), MCS_E_DATA);
    mcs_error_clear();
    mcs_prompts_free(&p);
    const char *const only[] = {"a"};
    cr_assert_eq(mcs_prompts_add(&p, "a.png", only, 1), MCS_OK);
    cr_expect_null(mcs_prompts_find(&p, "b.png"));
    p.v[0].texts[0][0] = '\xE9';
    cr_expect_eq(mcs_prompts_write(in_folder("q.json"), &p), MCS_E_DATA);
    mcs_error_clear();
    mcs_prompts_free(&p);
}

Test(pairs, bad_prompts)
{
    static const struct {
        const char *bytes, *says;
    } bad[] = {
        {"", "line 1"},
        {"{\n\"a\": \"x\",\n\"b\" \"y\"}", "line 3"},
        {"{\n\"a\": \"x\",\n\"a\": \"y\"}", "line 3"},
        {"[\"x\"]", "want an object"},
        {"{\"a.png\": 5}", "\"a.png\": want a text"},
        {"{\"a.png\": [\"x\", {}]}", "\"a.png\": want a text"},
        {"{\"a.png\": []}", "\"a.png\": the list of texts is empty"},
        {"{\"a.png\": [\"x\", \" \"]}", "\"a.png\": text 2 is empty"},
        {"{}", "no prompt in it"},
        {"{\"a\": \"caf\xE9\"}", "line 1"},
        {"{\"a\": \"x\"} {", "line 1"},
    };
    struct prompts p;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_expect_eq(mcs_prompts_read(put("p.json", bad[i].bytes), &p), MCS_E_DATA, "prompts %zu were taken", i);
        SAYS(bad[i].says);
        SAYS("p.json: ");
        mcs_error_clear();
    }
    cr_expect_eq(mcs_prompts_read(in_folder("none.json"), &p), MCS_E_NOINPUT);
    mcs_error_clear();
}

/* Names and stems of many prompts are found by a sorted index: 5,000 images among 100,000 prompts in well below a
 * second, where one look at every prompt would take minutes. */
Test(pairs, many_prompts)
{
    enum { PROMPTS = 100000, IMAGES = 5000 };
    struct prompts p;
    char *text = malloc(40 * PROMPTS), *to = text, name[32], want[32];
    *to++ = '{';
    for (int i = 0; i < PROMPTS; i++) to += sprintf(to, "%s\"i%d.png\":\"t%d\"", i ? "," : "", i, i);
    to += sprintf(to, "}");
    cr_assert_eq(mcs_file_write(in_folder("p.json"), text, to - text), MCS_OK);
    free(text);
    const clock_t start = clock();
    cr_assert_eq(mcs_prompts_read(in_folder("p.json"), &p), MCS_OK, "%s", mcs_error_message());
    for (int i = 0; i < IMAGES; i++) {
        snprintf(name, sizeof name, i % 2 ? "i%d.png" : "i%d.nii.gz", 19 * i);
        snprintf(want, sizeof want, "t%d", 19 * i);
        const struct prompt *found = mcs_prompts_find(&p, name);
        cr_assert(found && !strcmp(found->texts[0], want), "%s", name);
    }
    cr_expect_null(mcs_prompts_find(&p, "none.png"));
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    /* 0.2 s; the rest is for sanitizers and slow machines */
    cr_expect_lt(seconds, 10, "%g s of processor time", seconds);
    mcs_prompts_free(&p);
}

/* fuzz_make_seeds FOLDER: writes the seeds in tests/fuzz/seeds, FOLDER/READER/NAME: small valid files of every kind,
 * from which the fuzzers start. Run it again after adding a format. */
#include "data/image/image.h"
#include "data/image/volume.h"
#include "data/io/npy.h"
#include "data/io/store.h"
#include "infer/coarse/boxes.h"
#include "infer/unet/unet_model.h"
#include "tests/fuzz/support_fuzz.h"

#include <stdarg.h>
#include <string.h>
#include <turbojpeg.h>
#include <zlib.h>

#include "data/io/file.h"
#include "data/weights/weight_write.h"

#define OK(expr) FUZZ_REQUIRE((expr) == MCS_OK, "%s", mcs_error_message())

static const char *root;

static const char *at(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static const char *at(const char *fmt, ...)
{
    static char path[4096], folder[MCS_PATH_BYTES];
    va_list args;
    int n = snprintf(path, sizeof path, "%s/", root);
    va_start(args, fmt);
    vsnprintf(path + n, sizeof path - (size_t)n, fmt, args);
    va_end(args);
    const char *name;
    OK(mcs_path_split(path, folder, &name));
    OK(mcs_folder_make(folder));
    return path;
}

static void put(const char *reader, const char *name, const void *bytes, size_t n)
{
    OK(mcs_file_write(at("%s/%s", reader, name), bytes, (int64_t)n));
}

static void put_text(const char *reader, const char *name, const char *text)
{
    put(reader, name, text, strlen(text));
}

/* ---- PNG ---- */

struct bytes {
    uint8_t v[8192];
    size_t n;
};

static void add(struct bytes *b, const void *from, size_t n)
{
    FUZZ_REQUIRE(b->n + n <= sizeof b->v, "%zu bytes", b->n + n);
    if (n) memcpy(b->v + b->n, from, n);
    b->n += n;
}

static void add_big(struct bytes *b, uint64_t v, int n_bytes)
{
    for (int i = n_bytes - 1; i >= 0; i--) add(b, &(uint8_t){(uint8_t)(v >> 8 * i)}, 1);
}

static void add_little(struct bytes *b, uint64_t v, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++) add(b, &(uint8_t){(uint8_t)(v >> 8 * i)}, 1);
}

static void add_chunk(struct bytes *b, const char *kind, const uint8_t *data, size_t n)
{
    add_big(b, n, 4);
    const size_t from = b->n;
    add(b, kind, 4);
    add(b, data, n);
    add_big(b, crc32(0, b->v + from, (uInt)(b->n - from)), 4);
}

/* 5 x 4 pixels of each kind; interlaced (seven passes) or not. */
static void put_png(const char *name, int depth, int colour, int interlaced, const char *extra, size_t n_extra)
{
    static const int first[7][4] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                                    {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};
    const int width = 5, height = 4, samples = colour == 2 ? 3 : colour == 4 ? 2 : colour == 6 ? 4 : 1;
    struct bytes b = {.n = 0}, raw = {.n = 0}, head = {.n = 0};
    add(&b, "\x89PNG\r\n\x1a\n", 8);
    add_big(&head, (uint64_t)width, 4), add_big(&head, (uint64_t)height, 4);
    add(&head, (uint8_t[]){(uint8_t)depth, (uint8_t)colour, 0, 0, (uint8_t)interlaced}, 5);
    add_chunk(&b, "IHDR", head.v, head.n);
    if (colour == 3) add_chunk(&b, "PLTE", (const uint8_t *)"abcdefghijkl", 12);
    if (n_extra) add_chunk(&b, extra, (const uint8_t *)extra + 4, n_extra - 4);
    for (int pass = 0; pass < (interlaced ? 7 : 1); pass++) {
        const int x0 = interlaced ? first[pass][0] : 0, y0 = interlaced ? first[pass][1] : 0,
                  dx = interlaced ? first[pass][2] : 1, dy = interlaced ? first[pass][3] : 1;
        const int columns = (width - x0 + dx - 1) / dx;
        for (int y = y0; columns > 0 && y < height; y += dy) {
            add(&raw, &(uint8_t){(uint8_t)(interlaced ? 0 : y % 5)}, 1); /* each filter once */
            for (int i = 0; i < (columns * samples * depth + 7) / 8; i++)
                add(&raw, &(uint8_t){(uint8_t)(16 * y + 3 * i)}, 1);
        }
    }
    uint8_t packed[1024];
    uLongf n_packed = sizeof packed;
    FUZZ_REQUIRE(compress2(packed, &n_packed, raw.v, raw.n, 9) == Z_OK, "zlib");
    add_chunk(&b, "IDAT", packed, n_packed);
    add_chunk(&b, "IEND", NULL, 0);
    put("png", name, b.v, b.n);
}

static void make_png(void)
{
    static const int depths[][2] = {{1, 0}, {2, 0}, {4, 0}, {8, 0},  {16, 0}, {8, 2}, {16, 2},
                                    {1, 3}, {4, 3}, {8, 4}, {16, 4}, {8, 6},  {16, 6}};
    char name[64];
    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
        snprintf(name, sizeof name, "depth%d_colour%d", depths[i][0], depths[i][1]);
        put_png(name, depths[i][0], depths[i][1], 0, "", 0);
    }
    put_png("interlaced_grey", 8, 0, 1, "", 0);
    put_png("interlaced_palette", 2, 3, 1, "", 0);
    put_png("palette_transparent", 8, 3, 0, "tRNS\x10\x80", 6);
    put_png("grey_transparent", 8, 0, 0, "tRNS\0\x10", 6);
    put_png("gamma", 8, 2, 0, "gAMA\0\0\xb1\x8f", 8);
    put_png("text", 8, 0, 0, "tEXtTitle\0a lesion", 18);
    put_png("exif", 8, 0, 0, "eXIfMM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0", 30);
}

/* ---- JPEG ---- */

/* An APP1 segment with the EXIF orientation tag. */
static void put_turned(const char *name, const uint8_t *jpeg, size_t n, int orientation, int big)
{
    struct bytes b = {.n = 0}, exif = {.n = 0};
    void (*number)(struct bytes *, uint64_t, int) = big ? add_big : add_little;
    add(&exif, "Exif\0\0", 6);
    add(&exif, big ? "MM" : "II", 2);
    number(&exif, 42, 2), number(&exif, 8, 4), number(&exif, 1, 2);
    number(&exif, 0x112, 2), number(&exif, 3, 2), number(&exif, 1, 4), number(&exif, (uint64_t)orientation, 2),
        number(&exif, 0, 2);
    number(&exif, 0, 4);
    add(&b, jpeg, 2);
    add(&b, "\xff\xe1", 2), add_big(&b, exif.n + 2, 2), add(&b, exif.v, exif.n);
    add(&b, jpeg + 2, n - 2);
    put("jpeg", name, b.v, b.n);
}

static void make_jpeg(void)
{
    static const struct {
        const char *name;
        int samples, format, flags;
    } kinds[] = {{"grey", TJSAMP_GRAY, TJPF_GRAY, 0},
                 {"rgb444", TJSAMP_444, TJPF_RGB, 0},
                 {"rgb420", TJSAMP_420, TJPF_RGB, 0},
                 {"rgb422", TJSAMP_422, TJPF_RGB, 0},
                 {"progressive", TJSAMP_420, TJPF_RGB, TJFLAG_PROGRESSIVE},
                 {"cmyk", TJSAMP_444, TJPF_CMYK, 0}};
    uint8_t pixels[12 * 10 * 4];
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(7 * i);
    tjhandle h = tjInitCompress();
    FUZZ_REQUIRE(h, "turbojpeg");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        unsigned char *jpeg = NULL;
        unsigned long n = 0;
        FUZZ_REQUIRE(
            tjCompress2(h, pixels, 12, 0, 10, kinds[i].format, &jpeg, &n, kinds[i].samples, 40, kinds[i].flags) == 0,
            "%s", tjGetErrorStr2(h));
        put("jpeg", kinds[i].name, jpeg, n);
        if (i == 0) put_turned("grey_turned", jpeg, n, 6, 1);
        if (i == 1) put_turned("rgb_turned", jpeg, n, 5, 0);
        tjFree(jpeg);
    }
    tjDestroy(h);
}

/* ---- NIfTI ---- */

/* header: 348 (NIfTI-1) or 540 bytes; 3 x 2 x 2 voxels of `type`. */
static void put_nifti(const char *name, int two, int type, int bits, int big, int dims)
{
    struct bytes b = {.n = 0}, voxels = {.n = 0};
    void (*number)(struct bytes *, uint64_t, int) = big ? add_big : add_little;
    const int w = two ? 8 : 2; /* bytes of a dimension */
    uint32_t one;
    memcpy(&one, &(float){1.5f}, 4);
    uint64_t wide;
    memcpy(&wide, &(double){1.5}, 8);
    number(&b, two ? 540 : 348, 4);
    if (two)
        add(&b, "n+2\0\r\n\x1a\n", 8), number(&b, (uint64_t)type, 2), number(&b, (uint64_t)bits, 2);
    else
        while (b.n < 40) add(&b, "", 1);
    const int size[8] = {dims, 3, 2, dims > 2 ? 2 : 1, dims > 3 ? 1 : 1, 1, 1, 1};
    for (int d = 0; d < 8; d++) number(&b, (uint64_t)size[d], w);
    if (!two) {
        add(&b, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 14);
        number(&b, (uint64_t)type, 2), number(&b, (uint64_t)bits, 2), number(&b, 0, 2);
    } else
        while (b.n < 104) add(&b, "", 1);
    for (int d = 0; d < 8; d++) two ? number(&b, wide, 8) : number(&b, one, 4);
    const size_t whole = two ? 540 : 348, offset = two ? 168 : 108;
    FUZZ_REQUIRE(b.n == offset, "%zu bytes before vox_offset", b.n);
    if (two)
        number(&b, 544, 8);
    else {
        float f = 352;
        uint32_t bits_of;
        memcpy(&bits_of, &f, 4);
        number(&b, bits_of, 4);
    }
    while (b.n < whole) add(&b, "", 1);
    if (!two) memcpy(b.v + 344, "n+1", 4), b.v[123] = 2; /* millimetres */
    add(&b, "\0\0\0\0", 4);
    for (int i = 0; i < 12 * (bits / 8 ? bits / 8 : 1); i++) add(&voxels, &(uint8_t){(uint8_t)(5 * i)}, 1);
    add(&b, voxels.v, voxels.n);
    put("nifti", name, b.v, b.n);
    if (strcmp(name, "two_big") != 0 && strcmp(name, "one_type4") != 0) return;
    /* the same as two files; the fuzzer splits them after the header */
    memcpy(b.v + (two ? 4 : 344), two ? "ni2" : "ni1", 4);
    memmove(b.v + whole, b.v + whole + 4, b.n - whole - 4);
    memset(b.v + offset, 0, two ? 8 : 4);
    put("nifti", two ? "two_files" : "one_files", b.v, b.n - 4);
}

static void make_nifti(void)
{
    static const int types[][2] = {{2, 8},   {4, 16},   {8, 32},   {16, 32},    {64, 64},
                                   {256, 8}, {512, 16}, {768, 32}, {1024, 64},  {1280, 64},
                                   {1, 1},   {32, 64},  {128, 24}, {1536, 128}, {2304, 32}};
    char name[64];
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        snprintf(name, sizeof name, "one_type%d", types[i][0]);
        put_nifti(name, 0, types[i][0], types[i][1], i % 2, 3);
    }
    put_nifti("two_little", 1, 4, 16, 0, 3);
    put_nifti("two_big", 1, 16, 32, 1, 3);
    put_nifti("flat", 0, 2, 8, 0, 2);
    put_nifti("four", 0, 2, 8, 0, 4);
    struct volume v = {.nx = 3, .ny = 2, .nz = 2, .spacing = {1, 2, 3}};
    const uint8_t labels[12] = {0, 1, 2};
    OK(mcs_volume_write_u8(at("nifti/written.nii.gz"), labels, &v));
    FUZZ_REQUIRE(rename(at("nifti/written.nii.gz"), strdup(at("nifti/packed"))) == 0, "rename");
}

/* ---- arrays ---- */

static void put_npy(const char *name, int version, const char *type, int fortran, const char *shape, size_t n_bytes)
{
    struct bytes b = {.n = 0};
    char head[128];
    const int n = snprintf(head, sizeof head, "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }\n", type,
                           fortran ? "True" : "False", shape);
    add(&b, "\x93NUMPY", 6);
    add(&b, (uint8_t[]){(uint8_t)version, 0}, 2);
    add_little(&b, (uint64_t)n, version == 1 ? 2 : 4);
    add(&b, head, (size_t)n);
    for (size_t i = 0; i < n_bytes; i++) add(&b, &(uint8_t){(uint8_t)i}, 1);
    put("npy", name, b.v, b.n);
}

static void make_arrays(void)
{
    const float v[6] = {1, -2, 3.5f, 0, 1e30f, 6};
    OK(mcs_npy_write(at("npy/written"), v, 2, (int64_t[]){2, 3}));
    put_npy("half", 1, "<f2", 0, "(2, 2)", 8);
    put_npy("double", 2, "<f8", 0, "(3,)", 24);
    put_npy("scalar", 3, "<f4", 0, "()", 4);
    put_npy("empty", 1, "<f4", 0, "(0, 5)", 0);
    put_npy("fortran", 1, "<f4", 1, "(1, 2)", 8);
    put_npy("big", 1, ">f4", 0, "(1,)", 4);
    const struct weight_out out[] = {{.name = "a.weight", .type = MCS_ARRAY_F32, .nd = 2, .dims = {2, 3}, .values = v},
                                     {.name = "b", .type = MCS_ARRAY_F16, .nd = 1, .dims = {3}, .values = v},
                                     {.name = "none", .type = MCS_ARRAY_F32, .nd = 2, .dims = {0, 7}, .values = v}};
    OK(mcs_safetensors_write(at("safetensors/written"), 3, out, 1, (const char *const[][2]){{"format", "pt"}}));
    OK(mcs_safetensors_write(at("safetensors/nothing"), 0, out, 0, NULL));
    struct bytes b = {.n = 0};
    static const char head[] = "{\"u\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},\"h\":{\"dtype\":"
                               "\"BF16\",\"shape\":[2],\"data_offsets\":[3,7]},"
                               "\"l\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[7,15]},\"d\":{\"dtype\":"
                               "\"F64\",\"shape\":[1],\"data_offsets\":[15,23]}}";
    add_little(&b, sizeof head - 1, 8);
    add(&b, head, sizeof head - 1);
    add(&b, "abcdefghijklmnopqrstuvwxyz", 23);
    put("safetensors", "types", b.v, b.n);
}

static void make_torch(void)
{
    const float v[6] = {1, -2, 3.5f, 0, 1e30f, 6};
    const struct weight_out out[] = {{.name = "a", .type = MCS_ARRAY_F32, .nd = 2, .dims = {2, 3}, .values = v},
                                     {.name = "b", .type = MCS_ARRAY_F16, .nd = 0, .values = v}};
    struct bytes b = {.n = 0};
    OK(mcs_torch_write(at("torch/written"), 2, out, NULL));
    OK(mcs_torch_write(at("torch/wrapped"), 1, out, "state_dict"));
    put_text("shards", "one", "{\"metadata\": {\"total_size\": 4}, \"weight_map\": {\"a\": \"1.safetensors\"}}");
    static const char tensor[] = "\x80\x02}q\0X\1\0\0\0a"
                                 "ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\n"
                                 "X\1\0\0\0"
                                 "0X\3\0\0\0cpuK\4tQK\0(K\2K\2t(K\2K\1t\x89}tRs.",
                      values[] = "\x80\x02(NK\7M\1\2J\xff\xff\xff\xff\x8a\2\1\2G@\0\0\0\0\0\0\0\x88\x89U\1a]q\0(h\0"
                                 "cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\2\0\0\0i2\x85Rc_codecs\nencode\n"
                                 "X\2\0\0\0abX\6\0\0\0latin1\x86R\x86Rctorch\ndevice\nX\3\0\0\0cpu\x85Rt.";
    put("pickle", "tensor", tensor, sizeof tensor - 1);
    put("pickle", "values", values, sizeof values - 1);
    static const char magic[] = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\3.\x80\x02}.",
                      keys[] = "\x80\x02]X\1\0\0\0"
                               "0a.";
    add(&b, magic, sizeof magic - 1);
    add(&b, tensor, sizeof tensor - 1);
    add(&b, keys, sizeof keys - 1);
    add_little(&b, 4, 8);
    add(&b, "ABCDEFGHIJKLMNOP", 16);
    put("torch", "legacy", b.v, b.n);
}

static void make_stores(void)
{
    struct store *s;
    const float v[6] = {1, 2, 3, 4, 5, 6};
    const int32_t w[2] = {-1, 7};
    OK(mcs_store_create(at("store/all"), &s));
    OK(mcs_store_put(s, "a", MCS_ARRAY_F32, 2, (int64_t[]){2, 3}, v));
    OK(mcs_store_put(s, "deep/b", MCS_ARRAY_I32, 1, (int64_t[]){2}, w));
    OK(mcs_store_put_texts(s, "names", 2, (const char *const[]){"one", "\xc3\xa9"}));
    OK(mcs_store_put_text(s, "note", "seven"));
    OK(mcs_store_put_number(s, "number", 0.5));
    OK(mcs_store_commit(s));
    OK(mcs_store_create(at("store/empty"), &s));
    OK(mcs_store_commit(s));
}

/* ---- texts ---- */

static void make_texts(void)
{
    put_text("vocabulary", "small", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nbright\nlesion\n##s\n,\n");
    put_text("vocabulary", "crlf", "[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\n\xe6\x96\xb0\r\n##\xcc\x81");
    put_text("vocabulary", "merges", "#version: 0.2\nl e\nle s\nn</w> t\ni o\nio n</w>\n");
    put_text(
        "vocabulary", "bpe_json",
        "{\"normalizer\": {\"normalizers\": [{\"type\": \"NFC\"}, {\"type\": \"Replace\"}, {\"type\": \"Lowercase\""
        "}]}, \"pre_tokenizer\": {\"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": \"'s|'t|'re"
        "|'ve|'m|'ll|'d|[\\\\p{L}]+|[\\\\p{N}]|[^\\\\s\\\\p{L}\\\\p{N}]+\"}}, {\"type\": \"ByteLevel\"}]}, \"model\""
        ": {\"type\": \"BPE\", \"end_of_word_suffix\": \"</w>\", \"merges\": [\"l e\", [\"le\", \"s\"]], \"vocab\": {"
        "\"!\": 0, \"<|endoftext|>\": 515}}}");
    put_text("vocabulary", "tokenizer_json",
             "{\"normalizer\": {\"type\": \"BertNormalizer\"}, \"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}, "
             "\"post_processor\": {\"type\": \"BertProcessing\", \"sep\": [\"[SEP]\", 3], \"cls\": [\"[CLS]\", 2]}, "
             "\"added_tokens\": [{\"content\": \"[SEP]\"}], \"model\": {\"unk_token\": \"[UNK]\", "
             "\"continuing_subword_prefix\": \"##\", \"max_input_chars_per_word\": 100, \"vocab\": {\"[PAD]\": 0, "
             "\"[UNK]\": 1, \"[CLS]\": 2, \"[SEP]\": 3, \"a\": 4}}}");
    put_text("text", "plain", "A bright lesion, 3 cm!");
    put_text("text", "marks",
             "e\xcc\x81\xc3\xa9 &amp; &lt;b&gt; &#233; &notanentity; \xe6\x96\xb0\xe7\x97\x85 \xef\xac\x81");
    put_text("text", "odd",
             "\xe2\x80\x8b\t\r\n\xc2\xa0"
             "x\xe1\xba\x9e\xf0\x9f\x99\x82 [SEP] ##a \xe2\x80\x9cquoted\xe2\x80\x9d");
    put_text("pairs", "plain", "filename,Caption\nf.csv,a bright lesion\nnone.png,other\n");
    put_text("pairs", "quoted",
             "\xef\xbb\xbf"
             "Caption;filename\r\n\"a \"\"b\"\"\r\n, c\";f.csv\r\n\r\n;f.csv\r\n");
    put_text("pairs", "guarded", "filename,Caption\nf.csv,'=1+2\n\"f.csv\",\"'-x\"\n'@x,\\xff\n");
    put_text("pairs", "cell", "=1+\",\n'@\xff\\xff");
    put_text("prompts", "several", "{\"a.png\": \"a lesion\", \"b\": [\"one\", \"two\"], \"*\": \"any\"}");
    put_text("prompts", "names", "{\"\\u00e9\\\\xff.png\": \"\\ud83d\\ude42\", \"n\\\\\\\\xff\": [\"\\u001b\"]}");
    put_text("boxes", "hand",
             "{\"made_by\": {\"verb\": \"coarse\"}, \"cases\": [{\"image\": \"a.png\", \"size\": [8, 6], "
             "\"components\": [{\"box\": "
             "[1, 2, 3, 4], \"points\": [[1, 2, 1], [3, 3, 0]], \"confidence\": 0.5, \"area\": 4}]}, {\"image\": "
             "\"b\\\\xff.nii.gz\", \"size\": [1, 1], \"components\": [], \"reason\": \"void\"}]}");
    put_text("config", "flat",
             "verb: v\nversion: 0.1.0\nargs: [\"a\", \"b\"]\ntext: \"x\\x1B\\u2028y\"\nword: b\ncount: 17\nflag: "
             "true\nchoice: two\nlist: [a, b]\nform: \"loss=paper,coarse=release\"\n");
    put_text("config", "nested",
             "# comment\nnested:\n  rate: 0.25\nlist:\n- 'one'\n- two\ntext: |\n  several\n  lines\nseed: "
             "7\nmax-memory: 2G\nflag: no\n");
    put_text("config", "odd",
             "%YAML 1.1\n---\n? text\n: >-\n  folded\n  lines\n!!str word: !!str a\ncount: ~\nlist: &a [x]\n...\n");
    put_text("json", "all",
             "{\"a\": [1, -2.5e3, true, false, null, \"\\u00e9\\n\"], \"b\": {\"c\": {}}, \"d\\\\xff\": []}");
    put_text("json", "name",
             "x\xff\\xff\x1b[31m\xc2\x9b"
             "\\\\");
}

/* ---- models ---- */

static void make_models(void)
{
    static struct unet_plans p;
    static const struct unet_checkpoint c[2] = {{1, 1, 10, "cycle_1.safetensors"}, {2, 1, 20, "cycle_2.safetensors"}};
    static const char *const names[] = {"plans.json", "dataset.json", "checkpoints.json"};
    struct bytes b = {.n = 0};
    OK(mcs_unet_plans_make(1, 3, 32, 48, 0, 4, 16, &p));
    OK(mcs_unet_plans_write(fuzz_folder(), &p));
    OK(mcs_unet_checkpoints_write(fuzz_folder(), c, 2));
    for (int i = 0; i < 3; i++) {
        char path[256], *text;
        int64_t n;
        snprintf(path, sizeof path, "%s/%s", fuzz_folder(), names[i]);
        OK(mcs_file_read(path, 1 << 16, &text, &n));
        if (i) add(&b, "", 1);
        add(&b, text, (size_t)n);
        if (i == 2) put("plans", "checkpoints", text, (size_t)n);
        free(text);
        remove(path);
    }
    put("plans", "written", b.v, b.n);
    put_text("model", "clip",
             "{\"model_cfg\": {\"embed_dim\": 8, \"vision_cfg\": {\"image_size\": 16, \"patch_size\": 8, \"width\": "
             "16, \"layers\": 3, \"heads\": 2, "
             "\"mlp_width\": 32}, \"text_cfg\": {\"context_length\": 12, \"vocab_size\": 13, \"positions\": 12, "
             "\"types\": 2, \"width\": 16, "
             "\"layers\": 1, \"heads\": 2, \"mlp_width\": 32, \"proj_width\": 12, \"dropout\": 0.1}}, "
             "\"preprocess_cfg\": {\"mean\": [0.5, 0.5, 0.5], "
             "\"std\": [0.3, 0.3, 0.3]}}");
    put_text(
        "model", "open_clip",
        "{\"model_cfg\": {\"embed_dim\": 8, \"vision_cfg\": {\"timm_model_name\": \"vit_tiny_patch16_32\", "
        "\"timm_pool\": \"\", \"image_size\": 32}, \"text_cfg\": {\"hf_model_name\": \"bert\", \"hf_tokenizer_name\": "
        "\"bert\", \"hf_pooler_type\": \"cls_last_hidden_state_pooler\", \"context_length\": 9}}, \"preprocess_cfg\": "
        "{\"size\": 32}, \"mcsam_cfg\": {\"text_cfg\": {\"layers\": 1}}}");
    put_text("model", "openai",
             "{\"model_cfg\": {\"embed_dim\": 8, \"quick_gelu\": true, \"vision_cfg\": {\"image_size\": 16, \"layer"
             "s\": 2, \"width\": 64, \"patch_size\": 8, \"mlp_ratio\": 2.5, \"norm_kwargs\": {\"eps\": 1e-6}}, \"tex"
             "t_cfg\": {\"context_length\": 9, \"vocab_size\": 600, \"width\": 16, \"heads\": 2, \"layers\": 1, \"po"
             "ol_type\": \"eos\", \"eos_id\": 599}}, \"preprocess_cfg\": {\"size\": [16, 16]}}");
    put_text("model", "hugging_face",
             "{\"model_type\": \"clip\", \"projection_dim\": 8, \"text_config\": {\"hidden_size\": 16, \"intermedia"
             "te_size\": 32, \"num_attention_heads\": 2, \"num_hidden_layers\": 1, \"vocab_size\": 600, \"eos_to"
             "ken_id\": 2}, \"vision_config\": {\"hidden_size\": 16, \"num_attention_heads\": 2, \"image_size\": "
             "16, \"patch_size\": 8, \"hidden_act\": \"gelu\"}, \"size\": {\"shortest_edge\": 16}, \"crop_size\": 16"
             ", \"image_mean\": [0.5, 0.5, 0.5]}");
    put_text("model", "sam",
             "{\"image_size\": 32, \"patch\": 8, \"width\": 16, \"depth\": 2, \"heads\": 2, \"window\": 3, \"mlp\": "
             "32, \"embed\": 16, \"d_heads\": 2, "
             "\"d_mlp\": 16, \"d_downsample\": 2, \"mask_in\": 16, \"global\": [1]}");
}

int main(int argc, char **argv)
{
    FUZZ_REQUIRE(argc == 2, "fuzz_make_seeds FOLDER");
    root = argv[1];
    make_png();
    make_jpeg();
    make_nifti();
    make_arrays();
    make_torch();
    make_stores();
    make_texts();
    make_models();
    return 0;
}

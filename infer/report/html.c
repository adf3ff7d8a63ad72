#include "infer/report/html.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { FORMAT_BYTES = 4096 };

/* ---- text ---- */

/* Length in bytes of the UTF-8 character at s and its code point; 0 if invalid (truncated, overlong, a surrogate). */
static int decode_utf8(const unsigned char *s, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const int n = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
    if (!n) return 0;
    *code = n == 1 ? s[0] : s[0] & (0x7Fu >> n);
    for (int i = 1; i < n; i++) {
        if (s[i] >> 6 != 2) return 0;
        *code = *code << 6 | (s[i] & 0x3Fu);
    }
    return *code < least[n] || *code > 0x10FFFF || (*code >= 0xD800 && *code < 0xE000) ? 0 : n;
}

static int is_shown(uint32_t c)
{
    if (c == '\n' || c == '\t') return 1;
    if (c < 0x20 || (c >= 0x7F && c < 0xA0)) return 0;
    return !((c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069)); /* bidirectional overrides */
}

void mcs_html_text(FILE *out, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    while (*s) {
        uint32_t code = 0;
        const int n = decode_utf8(s, &code);
        const char *entity = code == '&'    ? "&amp;"
                             : code == '<'  ? "&lt;"
                             : code == '>'  ? "&gt;"
                             : code == '"'  ? "&quot;"
                             : code == '\'' ? "&#39;"
                                            : NULL;
        if (!n || !is_shown(code))
            fputs("\xEF\xBF\xBD", out);
        else if (entity)
            fputs(entity, out);
        else
            fwrite(s, 1, (size_t)n, out);
        s += n ? n : 1;
    }
}

void mcs_html_textf(FILE *out, const char *fmt, ...)
{
    char text[FORMAT_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    mcs_html_text(out, text);
}

void mcs_html_wrap(FILE *out, const char *before, const char *text, const char *after)
{
    fputs(before, out);
    if (text) mcs_html_text(out, text);
    fputs(after, out);
}

/* ---- images ---- */

static void write_base64(FILE *out, const uint8_t *p, int64_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int64_t i = 0; i < n; i += 3) {
        const int left = n - i < 3 ? (int)(n - i) : 3;
        const uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (left > 2 ? p[i + 2] : 0);
        const char four[4] = {digits[v >> 18], digits[v >> 12 & 63], left > 1 ? digits[v >> 6 & 63] : '=',
                              left > 2 ? digits[v & 63] : '='};
        fwrite(four, 1, 4, out);
    }
}

enum mcs_status mcs_html_png(FILE *out, const struct image *img)
{
    uint8_t *bytes;
    int64_t n_bytes;
    MCS_TRY(mcs_image_encode_png(img, &bytes, &n_bytes));
    fputs("data:image/png;base64,", out);
    write_base64(out, bytes, n_bytes);
    free(bytes);
    return MCS_OK;
}

/* ---- the frame ---- */

/* --s0 .. --s3: series of a chart, which also differ in lightness; --mask, --truth: outlines on grey images. */
#define LIGHT                                                                                                          \
    "--page:#fff;--ink:#1c2126;--soft:#57606a;--line:#d5dae0;--panel:#f5f7f9;--warn:#fff6da;--warnline:#d9a400;"       \
    "--s0:#0b5fad;--s1:#c4570c;--s2:#1f7a4d;--s3:#8a4fbf;--bar:#2f7fc9;--quiet:#a9b3bd;color-scheme:light;"
#define DARK                                                                                                           \
    "--page:#14181c;--ink:#e4e8ec;--soft:#a2adb8;--line:#3a434c;--panel:#1d2329;--warn:#332a0c;--warnline:#c79a1a;"    \
    "--s0:#6cb4f5;--s1:#f2a057;--s2:#6fce9f;--s3:#c79bf0;--bar:#4a94d8;--quiet:#5d6872;color-scheme:dark;"

static const char style[] =
    ":root{" LIGHT "--mask:#ff9a1f;--truth:#21e6ff}\n"
    "@media (prefers-color-scheme:dark){:root{" DARK "}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,'Segoe UI',Roboto,'DejaVu Sans',"
    "Arial,sans-serif}\n"
    "main{max-width:1180px;margin:0 auto;padding:24px 20px 60px}\n"
    "h1{font-size:30px;line-height:1.2;margin:8px 0 4px}\n"
    "h2{font-size:22px;margin:44px 0 8px;padding-top:10px;border-top:1px solid var(--line)}\n"
    "h3{font-size:17px;margin:26px 0 6px}\n"
    "p,ul,ol,dl{max-width:82ch;margin:8px 0}\n"
    "a{color:var(--s0)}\n"
    ".soft{color:var(--soft)}\n"
    ".missing{color:var(--soft);font-style:italic}\n"
    ".box{background:var(--warn);border-left:5px solid var(--warnline);padding:10px 18px;margin:18px "
    "0;max-width:calc(82ch + 44px)}\n"
    ".box h2{border:0;margin:0;padding:0;font-size:18px}\n"
    "nav{margin:14px 0}\n"
    "nav a{margin-right:16px;white-space:nowrap}\n"
    ".tiles{display:flex;flex-wrap:wrap;gap:12px;margin:16px 0}\n"
    ".tile{background:var(--panel);border:1px solid var(--line);border-radius:6px;padding:10px 16px;flex:1 1 190px}\n"
    ".tile b{display:block;font-size:26px;line-height:1.25}\n"
    ".tile span{color:var(--soft);font-size:14px;line-height:1.35;display:block}\n"
    ".wide{overflow-x:auto}\n"
    "table{border-collapse:collapse;margin:12px 0;font-variant-numeric:tabular-nums}\n"
    "th,td{text-align:left;padding:5px 16px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}\n"
    "th{font-weight:600}\n"
    "td.n,th.n{text-align:right;white-space:nowrap}\n"
    "td.s{color:var(--soft);font-size:14px;min-width:18em}\n"
    ".worse{color:var(--s1);font-weight:600}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:8px 28px}\n"
    ".chart{margin:14px 0;max-width:820px;break-inside:avoid}\n"
    ".chart.half{max-width:600px}\n"
    ".chart svg{display:block;width:100%;height:auto}\n"
    ".chart figcaption{font-weight:600}\n"
    ".chart figcaption span{font-weight:400;margin-left:14px;white-space:nowrap}\n"
    ".chart p{color:var(--soft);font-size:14px;margin:2px 0}\n"
    ".chart text{font-size:13px;fill:var(--ink)}\n"
    ".chart .t{fill:var(--soft)}\n"
    ".chart .g{stroke:var(--line);fill:none;stroke-width:1}\n"
    ".chart .a{stroke:var(--soft);fill:none;stroke-width:1}\n"
    ".chart .l{fill:none;stroke-width:2;stroke-linejoin:round}\n"
    ".chart .faint{stroke-width:1;opacity:.35}\n"
    ".c0{stroke:var(--s0);color:var(--s0)}.c1{stroke:var(--s1);color:var(--s1)}.c2{stroke:var(--s2);color:var(--s2)}"
    ".c3{stroke:var(--s3);color:var(--s3)}\n"
    ".chart .c1.l,.chart .c3.l{stroke-dasharray:7 3}\n"
    ".chart .area{fill:var(--s0);fill-opacity:.3;stroke:var(--s0)}\n"
    ".chart .b0{fill:var(--bar)}.chart .b1{fill:var(--quiet)}.chart .b2{fill:none;stroke:var(--soft);"
    "stroke-dasharray:5 3}\n"
    ".chart .w{stroke:var(--ink);stroke-width:1.5;fill:none}\n"
    ".keys{max-width:none}\n"
    ".case{border-top:1px solid var(--line);padding:14px 0 6px;break-inside:avoid}\n"
    ".case h3{margin:0}\n"
    ".case p{margin:2px 0;max-width:none;font-size:15px}\n"
    ".panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:10px;margin:8px 0}\n"
    ".panels figure{margin:0}\n"
    ".panels figcaption{font-size:14px;line-height:1.3;margin-top:2px}\n"
    ".panels figcaption b{display:block}\n"
    ".panels svg{display:block;width:100%;background:#000}\n"
    ".panels image{image-rendering:pixelated}\n"
    ".none{background:var(--panel);border:1px dashed var(--line);color:var(--soft);font-size:13px;padding:10px;"
    "aspect-ratio:1;overflow:hidden;overflow-wrap:anywhere}\n"
    "path.m{fill:var(--mask);fill-opacity:.4;stroke:var(--mask);stroke-width:1.5;vector-effect:non-scaling-stroke;"
    "fill-rule:evenodd}\n"
    "path.t{fill:none;stroke:var(--truth);stroke-width:1.5;vector-effect:non-scaling-stroke}\n"
    "path.f{fill:var(--truth);fill-opacity:.3;fill-rule:evenodd}\n"
    ".key{display:inline-block;width:2.4em;height:.8em;margin:0 .4em 0 1.1em;vertical-align:-.02em;border:1px solid "
    "var(--line)}\n"
    ".key.m{background:color-mix(in srgb,var(--mask) 55%,#444);border:2px solid var(--mask)}\n"
    ".key.t{background:#444;border:2px solid var(--truth)}\n"
    ".key.hot{background:linear-gradient(90deg,#000,#f00,#ff0,#fff)}\n"
    ".key.cool{background:linear-gradient(90deg,#000,#7c1fe0,#e66bd0,#fff3c9)}\n"
    "dt{font-weight:600;margin-top:10px}\n"
    "dd{margin:0}\n"
    "pre{background:var(--panel);border:1px solid var(--line);padding:10px 14px;overflow-x:auto;font-size:13.5px;"
    "line-height:1.4}\n"
    "code{overflow-wrap:anywhere}\n"
    "summary{cursor:pointer}\n"
    "@media (min-width:1120px){.panels{grid-template-columns:repeat(7,1fr)}}\n"
    "@media print{:root{" LIGHT "}body{font-size:10pt}main{max-width:none;padding:0}nav{display:none}"
    ".panels{grid-template-columns:repeat(7,1fr);gap:5px}.panels figcaption{font-size:8pt}h2,h3{break-after:avoid}"
    ".charts{grid-template-columns:1fr 1fr}.wide{overflow:visible}tr{break-inside:avoid}th,td{padding:3px 10px 3px 0}"
    "td.s{min-width:10em;font-size:9pt}"
    "*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}\n";

void mcs_html_begin(FILE *out, const char *title)
{
    mcs_html_wrap(out,
                  "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
                  title, "</title>\n<style>\n");
    fprintf(out, "%s</style>\n</head>\n<body>\n<main>\n", style);
}

void mcs_html_end(FILE *out)
{
    fputs("</main>\n</body>\n</html>\n", out);
}

/* DICOM through DCMTK: values as they are stored, before any table. Names of patients are never read. */

#include "data/imageread/imageread_dicom.h"
#include "data/imageread/imageread_dcmtk.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

/* How the cells of the pixel data are stored. */
struct cells {
    Uint16 rows, columns, samples, allocated, stored, high, is_signed, planar;
    long frames;
    int floats; /* 4 or 8: float pixel data */
    OFString photometric;
};

static DcmFileFormat *format;
static DcmDataset *data;
static struct cells cells;
static struct imageread_info opened;
static int is_j2k;

/* 0 for an uncompressed file that states the type of each element: it is read without the dictionary, whose loading
 * takes most of the time of a small file. (Decoders add elements, whose types they look up.) */
static int needs_dictionary(const uint8_t *b, int64_t n)
{
    static const uint8_t element[6] = {2, 0, 0x10, 0, 'U', 'I'}; /* Transfer Syntax UID, PS3.10 7.1 */
    if (n < 160 || memcmp(b + 128, "DICM", 4) != 0) return 1;
    for (int64_t at = 132; at + 32 < n; at++) {
        if (memcmp(b + at, element, sizeof element) != 0) continue;
        const char *uid = (const char *)b + at + 8;
        return strncmp(uid, UID_LittleEndianExplicitTransferSyntax, 20) != 0 || b[at + 6] != 20 || b[at + 7];
    }
    return 1;
}

void mcs_imageread_dicom_prepare(const uint8_t *bytes, int64_t n)
{
    OFLog::configure(OFLogger::OFF_LOG_LEVEL);
    if (!needs_dictionary(bytes, n)) setenv("DCMDICTPATH", "/dev/null", 1);
    dcmDataDict.rdlock();
    dcmDataDict.rdunlock();
    DJDecoderRegistration::registerCodecs();
    DJLSDecoderRegistration::registerCodecs();
    DcmRLEDecoderRegistration::registerCodecs();
}

/* ---- header ---- */

static enum mcs_status load(const struct imageread_file *f)
{
    static DcmInputBufferStream stream;
    stream.setBuffer(f->bytes, (offile_off_t)f->n);
    stream.setEos();
    format = new DcmFileFormat;
    format->transferInit();
    const OFCondition done = format->read(stream, EXS_Unknown, EGL_noChange, 1u << 30);
    format->transferEnd();
    MCS_REQUIRE(done.good(), MCS_E_DATA, ": truncated or damaged DICOM: %s", done.text());
    data = format->getDataset();
    return MCS_OK;
}

/* 0, and *dst as it was, where there is no such number; DCMTK would write 0. */
static int number(const DcmTagKey &tag, Uint16 *dst)
{
    Uint16 got;
    if (data->findAndGetUint16(tag, got).bad()) return 0;
    *dst = got;
    return 1;
}

static enum mcs_status check_kind(void)
{
    OFString kind;
    if (data->findAndGetOFString(DCM_SOPClassUID, kind).bad() && format->getMetaInfo())
        format->getMetaInfo()->findAndGetOFString(DCM_MediaStorageSOPClassUID, kind);
    const char *name = dcmFindNameOfUID(kind.c_str());
    MCS_REQUIRE(kind != UID_MediaStorageDirectoryStorage, MCS_E_DATA,
                ": a DICOMDIR, the list of a medium's files; give the folder of a series instead");
    MCS_REQUIRE(data->tagExists(DCM_PixelData) || data->tagExists(DCM_FloatPixelData) ||
                    data->tagExists(DCM_DoubleFloatPixelData),
                MCS_E_DATA, ": a DICOM file without pixels%s%s", name ? ": " : "", name ? name : "");
    return MCS_OK;
}

static enum mcs_status read_cells(struct cells *c)
{
    Sint32 frames = 1;
    c->rows = c->columns = 0;
    c->samples = 1;
    c->is_signed = c->planar = 0;
    const int sizes = number(DCM_Rows, &c->rows) && number(DCM_Columns, &c->columns);
    MCS_REQUIRE(sizes && c->rows && c->columns, MCS_E_DATA, ": a DICOM image of %d rows and %d columns", c->rows,
                c->columns);
    number(DCM_SamplesPerPixel, &c->samples);
    number(DCM_PixelRepresentation, &c->is_signed);
    number(DCM_PlanarConfiguration, &c->planar);
    if (data->tagExistsWithValue(DCM_NumberOfFrames)) {
        const OFCondition done = data->findAndGetSint32(DCM_NumberOfFrames, frames);
        MCS_REQUIRE(done.good() && frames >= 1 && frames <= 65535, MCS_E_DATA, ": %ld frames; want 1 to 65535",
                    (long)frames);
    }
    c->frames = frames;
    c->floats = data->tagExists(DCM_FloatPixelData) ? 4 : data->tagExists(DCM_DoubleFloatPixelData) ? 8 : 0;
    if (data->findAndGetOFString(DCM_PhotometricInterpretation, c->photometric).bad()) c->photometric = "MONOCHROME2";
    if (c->floats) return MCS_OK;
    MCS_REQUIRE(number(DCM_BitsAllocated, &c->allocated), MCS_E_DATA, ": no Bits Allocated");
    if (!number(DCM_BitsStored, &c->stored)) c->stored = c->allocated;
    if (!number(DCM_HighBit, &c->high)) c->high = c->stored - 1;
    MCS_REQUIRE((c->allocated == 1 || c->allocated == 8 || c->allocated == 16 || c->allocated == 32) &&
                    c->stored >= 1 && c->stored <= c->allocated && c->high < c->allocated && c->high + 1 >= c->stored,
                MCS_E_DATA, ": cells of %d bits, %d of them stored up to bit %d; want cells of 1, 8, 16 or 32",
                c->allocated, c->stored, c->high);
    return MCS_OK;
}

static enum mcs_status check_colours(struct imageread_info *info)
{
    const OFString &p = cells.photometric;
    const int grey = p == "MONOCHROME1" || p == "MONOCHROME2", palette = p == "PALETTE COLOR";
    const int rgb = p == "RGB" || p == "YBR_FULL" || p == "YBR_RCT" || p == "YBR_ICT" || p == "YBR_FULL_422";
    MCS_REQUIRE(grey || palette || rgb, MCS_E_DATA,
                ": a DICOM image of colours %s; want MONOCHROME1 or 2, PALETTE COLOR, RGB, YBR_FULL, YBR_FULL_422, "
                "YBR_RCT or YBR_ICT",
                p.c_str());
    MCS_REQUIRE(cells.samples == (rgb ? 3 : 1), MCS_E_DATA, ": %d samples a pixel with colours %s", cells.samples,
                p.c_str());
    MCS_REQUIRE(!rgb || cells.allocated == 8 || cells.allocated == 16, MCS_E_DATA, ": colours of %d bits; want 8 or 16",
                cells.allocated);
    MCS_REQUIRE(!palette || !cells.is_signed, MCS_E_DATA, ": a palette with signed indices");
    if (!palette) return MCS_OK;
    Uint16 first = 0, n = 0, bits = 0;
    data->findAndGetUint16(DCM_RedPaletteColorLookupTableDescriptor, n, 0);
    data->findAndGetUint16(DCM_RedPaletteColorLookupTableDescriptor, first, 1);
    data->findAndGetUint16(DCM_RedPaletteColorLookupTableDescriptor, bits, 2);
    MCS_REQUIRE(first == 0 && (bits == 8 || bits == 16), MCS_E_DATA,
                ": a palette that begins at index %d with entries of %d bits; want 0, and 8 or 16", first, bits);
    MCS_REQUIRE(data->tagExists(DCM_RedPaletteColorLookupTableData), MCS_E_DATA,
                ": a palette in segments, which is not read");
    info->n_palette = n ? n : 65536;
    info->palette_max = bits == 8 ? 255 : 65535;
    return MCS_OK;
}

static enum mcs_status check_syntax(void)
{
    const E_TransferSyntax syntax = data->getOriginalXfer();
    const DcmXfer xfer(syntax);
    is_j2k = syntax == EXS_JPEG2000LosslessOnly || syntax == EXS_JPEG2000;
    if (is_j2k || !xfer.isEncapsulated() || cells.floats) return MCS_OK;
    MCS_REQUIRE(data->canWriteXfer(EXS_LittleEndianExplicit, syntax) || syntax == EXS_RLELossless ||
                    (syntax >= EXS_JPEGProcess1 && syntax <= EXS_JPEGLSLossy),
                MCS_E_DATA, ": transfer syntax %s is not read", xfer.getXferName());
    return MCS_OK;
}

enum mcs_status mcs_imageread_dicom(const struct imageread_file *f, struct imageread_info *info)
{
    OFString series;
    MCS_TRY(load(f));
    MCS_TRY(check_kind());
    MCS_TRY(read_cells(&cells));
    info->format = IMAGEREAD_DICOM;
    info->orientation = 1;
    info->slope = 1;
    info->nx = cells.columns;
    info->ny = cells.rows;
    info->nz = cells.frames;
    info->channels = cells.samples;
    info->bits = cells.floats ? 0 : cells.stored;
    info->type = cells.floats == 4       ? MCS_PICTURE_F32
                 : cells.floats == 8     ? MCS_PICTURE_F64
                 : cells.allocated <= 8  ? MCS_PICTURE_U8 + (cells.is_signed != 0)
                 : cells.allocated <= 16 ? MCS_PICTURE_U16 + (cells.is_signed != 0)
                                         : MCS_PICTURE_U32 + (cells.is_signed != 0);
    if (!cells.floats) MCS_TRY(check_colours(info));
    MCS_TRY(check_syntax());
    MCS_TRY(dicom_geometry(data, info));
    MCS_TRY(dicom_meaning(data, info));
    if (data->findAndGetOFString(DCM_SeriesInstanceUID, series).good())
        snprintf(info->series, sizeof info->series, "%s", series.c_str());
    opened = *info;
    return MCS_OK;
}

/* ---- values ---- */

/* One cell's value: the stored bits, with the sign brought up. */
static int64_t cell_value(uint32_t cell)
{
    const int bits = cells.stored;
    uint32_t v = cell >> (cells.high + 1 - bits);
    if (bits < 32) v &= (1u << bits) - 1;
    if (cells.is_signed && bits < 32 && v >> (bits - 1)) return (int64_t)v - ((int64_t)1 << bits);
    return cells.is_signed ? (int64_t)(int32_t)v : (int64_t)v;
}

/* PS3.3 C.7.6.3.1.2, YBR_FULL, of 8 bits. */
static void to_rgb(uint8_t *p)
{
    const double y = p[0], b = p[1] - 128.0, r = p[2] - 128.0;
    const double rgb[3] = {y + 1.402 * r, y - 0.344136 * b - 0.714136 * r, y + 1.772 * b};
    for (int c = 0; c < 3; c++) p[c] = (uint8_t)(rgb[c] < 0 ? 0 : rgb[c] > 255 ? 255 : rgb[c] + 0.5);
}

/* The cells of the pixel data, uncompressed, in this machine's byte order; frames after another. */
static enum mcs_status place_cells(const void *src, int64_t n_cells, void *values)
{
    const int64_t pixels = (int64_t)cells.rows * cells.columns, n = pixels * cells.samples * cells.frames;
    const int bytes = cells.allocated == 1 ? 1 : cells.allocated / 8;
    MCS_REQUIRE(n_cells >= n, MCS_E_DATA, ": truncated: %lld values, its header promises %lld", (long long)n_cells,
                (long long)n);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = i; /* of interleaved samples, in the file */
        if (cells.samples == 3 && cells.planar == 1)
            at = i / (3 * pixels) * 3 * pixels + i % 3 * pixels + i / 3 % pixels;
        uint32_t cell = 0;
        if (cells.allocated == 1)
            cell = ((const uint8_t *)src)[at / 8] >> at % 8 & 1; /* PS3.5 8.1.1: the first is the lowest bit */
        else
            memcpy(&cell, (const uint8_t *)src + at * bytes, (size_t)bytes); /* little endian machine */
        const int64_t v = cell_value(cell);
        memcpy((uint8_t *)values + i * bytes, &v, (size_t)bytes);
    }
    if (cells.photometric == "YBR_FULL") {
        MCS_REQUIRE(bytes == 1, MCS_E_DATA, ": YBR_FULL of 16 bits, which is not read");
        for (int64_t i = 0; i < n; i += 3) to_rgb((uint8_t *)values + i);
    }
    return MCS_OK;
}

/* The codestreams of an encapsulated element: the first item is the table of offsets, a frame is one item, or all items
 * where there is one frame. */
static enum mcs_status read_j2k(DcmPixelData *pixels, void *values)
{
    DcmPixelSequence *items = NULL;
    const int64_t n = (int64_t)cells.rows * cells.columns * cells.samples;
    const int bytes = cells.allocated / 8;
    E_TransferSyntax syntax = data->getOriginalXfer();
    const DcmRepresentationParameter *parameter = NULL;
    pixels->getOriginalRepresentationKey(syntax, parameter);
    MCS_REQUIRE(pixels->getEncapsulatedRepresentation(syntax, parameter, items).good() && items && items->card() > 1,
                MCS_E_DATA, ": encapsulated pixels without a frame");
    const long n_items = (long)items->card() - 1;
    MCS_REQUIRE(n_items == cells.frames || cells.frames == 1, MCS_E_DATA,
                ": %ld frames in %ld fragments, which is not read; save it uncompressed", cells.frames, n_items);
    int32_t *frame = (int32_t *)malloc((size_t)n * sizeof *frame);
    MCS_REQUIRE(frame, MCS_E_NOMEM, ": no memory for a frame");
    enum mcs_status st = MCS_OK;
    for (long k = 0; k < cells.frames && st == MCS_OK; k++) {
        OFVector<uint8_t> joined;
        for (long i = k; i <= (cells.frames == 1 ? n_items - 1 : k); i++) {
            DcmPixelItem *item = NULL;
            Uint8 *part = NULL;
            if (items->getItem(item, (unsigned long)i + 1).bad() || item->getUint8Array(part).bad() || !part) continue;
            joined.insert(joined.end(), part, part + item->getLength());
        }
        st = joined.empty() ? MCS_FAIL(MCS_E_DATA, ": frame %ld is missing", k + 1)
                            : mcs_imageread_j2k_frame(&joined[0], (int64_t)joined.size(), cells.columns, cells.rows,
                                                      cells.samples, frame);
        for (int64_t i = 0; st == MCS_OK && i < n; i++)
            memcpy((uint8_t *)values + (k * n + i) * bytes, frame + i, (size_t)bytes);
    }
    free(frame);
    return st;
}

static enum mcs_status read_palette(uint16_t *palette)
{
    const DcmTagKey tags[3] = {DCM_RedPaletteColorLookupTableData, DCM_GreenPaletteColorLookupTableData,
                               DCM_BluePaletteColorLookupTableData};
    const int n = opened.n_palette;
    for (int c = 0; c < 3; c++) {
        const Uint16 *words = NULL;
        const Uint8 *octets = NULL;
        unsigned long n_words = 0, n_octets = 0;
        data->findAndGetUint16Array(tags[c], words, &n_words);
        if (!words) data->findAndGetUint8Array(tags[c], octets, &n_octets);
        const int packed = opened.palette_max == 255 && words && n_words < (unsigned long)n; /* two entries a word */
        MCS_REQUIRE((words && (packed ? 2 * n_words : n_words) >= (unsigned long)n) ||
                        (octets && n_octets >= (unsigned long)n),
                    MCS_E_DATA, ": a palette of fewer entries than the %d it promises", n);
        for (int i = 0; i < n; i++)
            palette[3 * i + c] = words ? packed ? words[i / 2] >> 8 * (i % 2) & 255 : words[i] : octets[i];
    }
    return MCS_OK;
}

static enum mcs_status read_floats(void *values)
{
    const int64_t n = (int64_t)cells.rows * cells.columns * cells.frames;
    unsigned long got = 0;
    const Float32 *single = NULL;
    const Float64 *twice = NULL;
    if (cells.floats == 4)
        data->findAndGetFloat32Array(DCM_FloatPixelData, single, &got);
    else
        data->findAndGetFloat64Array(DCM_DoubleFloatPixelData, twice, &got);
    MCS_REQUIRE((single || twice) && (int64_t)got >= n, MCS_E_DATA, ": truncated: %lu values, its header promises %lld",
                got, (long long)n);
    memcpy(values, single ? (const void *)single : (const void *)twice, (size_t)n * (size_t)cells.floats);
    return MCS_OK;
}

enum mcs_status mcs_imageread_dicom_values(void *values, uint16_t *palette)
{
    DcmElement *element = NULL;
    if (opened.n_palette) MCS_TRY(read_palette(palette));
    if (cells.floats) return read_floats(values);
    MCS_REQUIRE(data->findAndGetElement(DCM_PixelData, element).good(), MCS_E_DATA, ": no pixel data");
    if (is_j2k) return read_j2k(OFstatic_cast(DcmPixelData *, element), values);
    const DcmXfer xfer(data->getOriginalXfer());
    if (xfer.isEncapsulated()) {
        const OFCondition done = data->chooseRepresentation(EXS_LittleEndianExplicit, NULL);
        MCS_REQUIRE(done.good(), MCS_E_DATA, ": its %s pixels cannot be decoded: %s", xfer.getXferName(), done.text());
        const long frames = cells.frames;
        const Uint16 was = cells.samples, rows = cells.rows, columns = cells.columns, stored = cells.stored;
        MCS_TRY(read_cells(&cells)); /* colours, planes and depth are those of the decoded pixels now */
        MCS_REQUIRE(cells.frames == frames && cells.samples == was && cells.rows == rows && cells.columns == columns &&
                        cells.stored == stored,
                    MCS_E_DATA, ": its compressed pixels have other sizes than its header");
    }
    MCS_REQUIRE(cells.photometric != "YBR_FULL_422", MCS_E_DATA, ": uncompressed YBR_FULL_422, which is not read");
    Uint16 *words = NULL;
    Uint8 *octets = NULL;
    int64_t n_bytes;
    if (element->getVR() == EVR_OB || element->getUint16Array(words).bad()) {
        MCS_REQUIRE(element->getUint8Array(octets).good(), MCS_E_DATA, ": its pixels cannot be read");
    }
    n_bytes = (int64_t)element->getLength(EXS_LittleEndianExplicit);
    MCS_REQUIRE(words || octets, MCS_E_DATA, ": its pixel data is empty");
    return place_cells(words ? (const void *)words : (const void *)octets,
                       cells.allocated == 1 ? 8 * n_bytes : n_bytes / (cells.allocated / 8), values);
}

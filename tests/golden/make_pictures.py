#!/usr/bin/env python3
"""Images and volumes of every format that is read, and what Pillow, tifffile, nibabel, SimpleITK and pydicom find in them.

    python3 tests/golden/make_pictures.py     # writes tests/golden/pictures; needs numpy pillow tifffile imagecodecs nibabel SimpleITK pydicom

Each file is a few hundred bytes. expected.json holds for each: sizes, type of the stored values, the values themselves in the order
(z, y, x, channel), slope and inter, and the affine in RAS mm by the reference library (null: the file has none). Values of lossless
files are those that were written; where a library decodes (JPEG), its pixels."""
import io, json, os, shutil, struct, warnings
import numpy as np

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pictures")
expected = {}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def put(name, data):
    path = os.path.join(here, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    return path


def expect(name, fmt, a, channels=1, affine=None, **more):
    """a: stored values (y, x[, c]) or (z, y, x[, c])."""
    a = np.asarray(a)
    shape = a.shape[:-1] if channels > 1 else a.shape
    nz, ny, nx = ((1,) + shape)[-3:]
    e = {"format": fmt, "nx": nx, "ny": ny, "nz": nz, "channels": channels, "type": str(a.dtype.newbyteorder("=")),
         "values": [float(v) if a.dtype.kind == "f" else int(v) for v in a.ravel()]}
    if affine is not None:
        e["affine"] = [float(v) for v in np.asarray(affine).ravel()]
    e.update(more)
    expected[name] = e


def ramp(shape, dtype, low, high):
    n = int(np.prod(shape))
    return np.linspace(low, high, n).astype(dtype).reshape(shape)


# ---- PNG ----

def png(name, a, mode, bits, **more):
    """Written chunk by chunk, since Pillow writes neither grey of 2 and 4 bits nor RGB of 16; Pillow must read what it can."""
    import zlib
    colour = {"grey": 0, "rgb": 2, "palette": 3, "grey alpha": 4, "rgb alpha": 6}[mode]
    ny, nx = a.shape[:2]
    rows = b""
    for y in range(ny):
        v = a[y].ravel()
        if bits == 16:
            rows += b"\0" + v.astype(">u2").tobytes()
        elif bits == 8:
            rows += b"\0" + v.astype("u1").tobytes()
        else:
            text = "".join(format(int(x), "0%db" % bits) for x in v)
            text += "0" * (-len(text) % 8)
            rows += b"\0" + bytes(int(text[i:i + 8], 2) for i in range(0, len(text), 8))
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", nx, ny, bits, colour, 0, 0, 0))
    palette = more.get("palette")
    if palette:
        data += chunk(b"PLTE", bytes(palette))
    data += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path = put(name, data)
    from PIL import Image
    im = Image.open(path)
    if (mode in ("grey", "palette") and bits >= 8) or (bits == 8):
        assert np.array_equal(np.asarray(im), a), name
    elif mode == "palette":
        assert np.array_equal(np.asarray(im), a), name
    elif mode == "grey" and bits < 8:
        assert np.array_equal(np.asarray(im).astype(int), a.astype(int) * (255 // (2**bits - 1) if bits > 1 else 1)), name
    expect(name, "PNG", a, {"grey": 1, "palette": 1, "rgb": 3, "grey alpha": 2, "rgb alpha": 4}[mode], bits=bits, **more)


def all_png():
    for bits in (1, 2, 4, 8, 16):
        png("grey%d.png" % bits, ramp((5, 7), "u2" if bits == 16 else "u1", 0, 2**bits - 1), "grey", bits)
    for bits in (1, 2, 4, 8):
        n = 2**min(bits, 4)
        palette = [(37 * i) % 256 for i in range(3 * n)]
        png("palette%d.png" % bits, (np.arange(35).reshape(5, 7) % n).astype("u1"), "palette", bits, palette=palette)
    for mode, c in (("rgb", 3), ("grey alpha", 2), ("rgb alpha", 4)):
        for bits in (8, 16):
            png("%s%d.png" % (mode.replace(" ", "_"), bits), ramp((4, 5, c), "u2" if bits == 16 else "u1", 3, 2**bits - 1), mode, bits)


# ---- JPEG ----

def all_jpeg():
    from PIL import Image, ImageOps
    grey = ramp((12, 16), "u1", 0, 255)
    for name, im, exif in (("grey.jpg", Image.fromarray(grey), 1), ("orientation6.jpg", Image.fromarray(grey), 6),
                           ("rgb.JPG", Image.fromarray(np.dstack([grey, grey.T.reshape(12, 16), 255 - grey])), 1)):
        b = io.BytesIO()
        e = Image.Exif()
        e[0x0112] = exif
        im.save(b, "JPEG", quality=95, subsampling=0, **({"exif": e} if exif > 1 else {}))
        path = put(name, b.getvalue())
        a = np.asarray(Image.open(path))
        expect(name, "JPEG", a, a.shape[2] if a.ndim == 3 else 1, orientation=exif)
        if exif > 1:
            expected[name]["upright"] = [int(v) for v in np.asarray(ImageOps.exif_transpose(Image.open(path))).ravel()]
    b = io.BytesIO()
    Image.fromarray(np.dstack([grey] * 4), "CMYK").save(b, "JPEG")
    put("bad/cmyk.jpg", b.getvalue())
    import imagecodecs
    put("bad/bits12.jpg", imagecodecs.jpeg8_encode(ramp((16, 16), "u2", 0, 4095), bitspersample=12))


# ---- TIFF ----

def tiff(name, a, channels=1, bits=None, check=True, expected_values=None, **kw):
    import tifffile
    path = os.path.join(here, name)
    more = {k: kw.pop(k) for k in ("palette", "inverted", "orientation", "palette_max") if k in kw}
    tifffile.imwrite(path, a, **kw)
    if check:
        assert np.array_equal(tifffile.imread(path).reshape(a.shape), a), name
    expect(name, "TIFF", a if expected_values is None else expected_values, channels, **({"bits": bits} if bits else {}), **more)


def all_tiff():
    from PIL import Image
    grey = dict(photometric="minisblack")
    for t in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"):
        d = np.dtype(t)
        low, high = (np.iinfo(d).min, np.iinfo(d).max) if d.kind != "f" else (-1.5e3, 2.25e4)
        if d.itemsize == 8 and d.kind != "f":
            low, high = max(low, -2**52), 2**52
        a = ramp((5, 7), d, low, high)
        tiff("%s.tif" % d.name, a, **grey)
        if t in ("u2", "i4", "f4"):
            tiff("%s_big.TIFF" % d.name, a, byteorder=">", **grey)
            tiff("%s_bigtiff.tif" % d.name, a, bigtiff=True, **grey)
    half = ramp((5, 7), "f2", -3, 7)
    tiff("float16.tif", half, expected_values=half.astype("f4"), **grey)
    rgb = ramp((6, 9, 3), "u1", 0, 255)
    tiff("rgb8.tif", rgb, 3, photometric="rgb")
    tiff("rgb16_planes.tif", np.ascontiguousarray(ramp((3, 6, 9), "u2", 0, 65535)), 3, photometric="rgb", planarconfig="separate",
         expected_values=ramp((3, 6, 9), "u2", 0, 65535).transpose(1, 2, 0))
    tiff("rgba8.tif", ramp((6, 9, 4), "u1", 0, 255), 4, photometric="rgb", extrasamples=["unassalpha"])
    tiff("tiles.tif", ramp((20, 37), "u2", 0, 65535), tile=(16, 16), **grey)
    tiff("tiles_planes.tif", ramp((3, 20, 37), "u1", 0, 255), 3, photometric="rgb", planarconfig="separate", tile=(16, 16),
         expected_values=ramp((3, 20, 37), "u1", 0, 255).transpose(1, 2, 0))
    tiff("pages.tif", ramp((3, 5, 7), "i2", -300, 3000), **grey)
    for c in ("lzw", "deflate", "packbits", "zstd", "lzma"):
        tiff("%s.tif" % c, ramp((9, 7), "u2", 0, 4095), compression=c, rowsperstrip=4, **grey)
    tiff("predictor.tif", ramp((9, 7), "u2", 0, 4095), compression="deflate", predictor=True, **grey)
    tiff("predictor_float.tif", ramp((9, 7), "f4", 0, 4095), compression="deflate", predictor=True, **grey)
    tiff("white_is_zero.tif", ramp((5, 7), "u1", 0, 255), photometric="miniswhite", inverted=1)
    palette = (np.arange(768).reshape(3, 256) * 85 % 65536).astype("u2")
    tiff("palette.tif", ramp((5, 7), "u1", 0, 255), photometric="palette", colormap=palette, palette_max=65535,
         palette=[int(v) for v in palette.T.ravel()])
    b = ramp((5, 9), "u1", 0, 1.99)
    Image.fromarray(b.astype(bool)).save(os.path.join(here, "bilevel_g4.tif"), compression="group4")
    with Image.open(os.path.join(here, "bilevel_g4.tif")) as im:
        assert np.array_equal(np.asarray(im), b.astype(bool))
        inverted = int(im.tag_v2[262] == 0)
    expect("bilevel_g4.tif", "TIFF", 1 - b if inverted else b, bits=1, inverted=inverted)
    a, rows = ramp((5, 7), "u2", 0, 4095), b""  # 12 bits a value, rows padded to bytes, by hand
    for y in range(5):
        text = "".join(format(int(v), "012b") for v in a[y])
        text += "0" * (-len(text) % 8)
        rows += bytes(int(text[i:i + 8], 2) for i in range(0, len(text), 8))
    tags = [(256, 4, 7), (257, 4, 5), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, 5), (279, 4, len(rows))]
    put("bits12.tif", b"II*\0" + struct.pack("<I", 8 + len(rows)) + rows + struct.pack("<H", len(tags)) +
        b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in tags) + struct.pack("<I", 0))
    expect("bits12.tif", "TIFF", a, bits=12)
    tiff("orientation8.tif", ramp((5, 7), "u1", 0, 255), orientation=8, extratags=[(274, "H", 1, 8, True)], **grey)
    jpeg = ramp((16, 16, 3), "u1", 0, 255)
    import tifffile
    tifffile.imwrite(os.path.join(here, "jpeg_ycbcr.tif"), jpeg, photometric="rgb", compression="jpeg", compressionargs={"level": 95})
    with Image.open(os.path.join(here, "jpeg_ycbcr.tif")) as im:
        expect("jpeg_ycbcr.tif", "TIFF", np.asarray(im), 3)
    Image.fromarray(np.dstack([ramp((5, 7), "u1", 0, 255)] * 4), "CMYK").save(os.path.join(here, "bad", "cmyk.tif"))
    tifffile.imwrite(os.path.join(here, "bad", "channels5.tif"), ramp((5, 7, 5), "u1", 0, 255), photometric="minisblack", planarconfig="contig")
    with tifffile.TiffWriter(os.path.join(here, "bad", "pages_differ.tif")) as w:
        w.write(ramp((5, 7), "u1", 0, 255), **grey)
        w.write(ramp((6, 7), "u1", 0, 255), **grey)
    data = open(os.path.join(here, "uint16.tif"), "rb").read()
    put("bad/truncated.tif", data[:-20])
    bomb = bytearray(data)  # ImageWidth and ImageLength are tags 256 and 257
    n, = struct.unpack_from("<H", bomb, struct.unpack_from("<I", bomb, 4)[0])
    for i in range(n):
        at = struct.unpack_from("<I", bomb, 4)[0] + 2 + 12 * i
        if struct.unpack_from("<H", bomb, at)[0] in (256, 257):
            struct.pack_into("<HII", bomb, at + 2, 4, 1, 65000)
    put("bad/bomb.tif", bytes(bomb))


# ---- JPEG 2000 ----

def all_j2k():
    import imagecodecs
    for name, a, codec in (("grey8.jp2", ramp((9, 11), "u1", 0, 255), "jp2"), ("grey16.J2K", ramp((9, 11), "u2", 0, 65535), "j2k"),
                           ("rgb8.jp2", ramp((9, 11, 3), "u1", 0, 255), "jp2")):
        data = imagecodecs.jpeg2k_encode(a, level=0, reversible=True, codecformat=codec)
        assert np.array_equal(imagecodecs.jpeg2k_decode(data), a)
        put(name, data)
        expect(name, "JPEG 2000", a, 3 if a.ndim == 3 else 1)
    put("bad/truncated.jp2", data[:-60])


# ---- DICOM ----

def dataset(a, syntax, uid="1", rescale=None, photometric="MONOCHROME2", bits=None, place=None, window=None, frames=False):
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498." + uid
    meta.TransferSyntaxUID = syntax
    d = pydicom.dataset.Dataset()
    d.file_meta = meta
    d.SOPClassUID, d.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    d.PatientName, d.PatientID = "Secret^Name", "SECRET"
    d.Modality = "CT"
    d.SeriesInstanceUID, d.StudyInstanceUID = "1.2.3.4", "1.2.3"
    colour = a.ndim == (4 if frames else 3)
    d.SamplesPerPixel = 3 if colour else 1
    d.PhotometricInterpretation = photometric
    if colour:
        d.PlanarConfiguration = 0
    shape = a.shape[1:] if frames else a.shape
    d.Rows, d.Columns = shape[0], shape[1]
    if frames:
        d.NumberOfFrames = a.shape[0]
    d.BitsAllocated = 8 * a.dtype.itemsize
    d.BitsStored = bits or d.BitsAllocated
    d.HighBit = d.BitsStored - 1
    d.PixelRepresentation = int(a.dtype.kind == "i")
    if rescale:
        d.RescaleSlope, d.RescaleIntercept = rescale
    if window:
        d.WindowCenter, d.WindowWidth = window
    if place:
        d.ImagePositionPatient, d.ImageOrientationPatient, d.PixelSpacing, d.SliceThickness = place
    return d


def save(name, d, data=None):
    import pydicom
    syntax = d.file_meta.TransferSyntaxUID
    little = syntax != "1.2.840.10008.1.2.2"
    if data is not None:
        d.PixelData = data
        d["PixelData"].VR = "OB" if d.BitsAllocated == 8 or syntax.is_encapsulated else "OW"
    path = os.path.join(here, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    pydicom.dcmwrite(path, d, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=little, enforce_file_format=True)
    return path


def sitk_affine(path):
    import SimpleITK as sitk
    im = sitk.ReadImage(path)
    m = np.eye(4)
    m[:3, :3] = np.array(im.GetDirection()).reshape(3, 3) @ np.diag(im.GetSpacing())
    m[:3, 3] = im.GetOrigin()
    return LPS @ m, sitk.GetArrayFromImage(im)


def all_dicom():
    import imagecodecs, pydicom
    from pydicom.encaps import encapsulate
    from pydicom import uid
    a12 = ramp((6, 8), "u2", 0, 4095)
    signed = ramp((6, 8), "i2", -1024, 2000)
    turn = 0.3
    place = ([-10.5, 20.25, -30.125], [np.cos(turn), np.sin(turn), 0, 0, 0, -1], [0.75, 0.5], 2.5)
    place = ([float("%.6g" % v) for v in place[0]], [float("%.10f" % v) for v in place[1]], place[2], place[3])
    big = lambda a: a.astype(a.dtype.newbyteorder(">")).tobytes()
    for name, syntax in (("explicit", uid.ExplicitVRLittleEndian), ("implicit", uid.ImplicitVRLittleEndian),
                         ("deflated", uid.DeflatedExplicitVRLittleEndian), ("big", uid.ExplicitVRBigEndian)):
        d = dataset(signed, syntax, rescale=(2, -24.5), place=place, window=(40, 400))
        path = save("dicom/%s.dcm" % name, d, big(signed) if name == "big" else signed.tobytes())
        affine, values = sitk_affine(path)
        affine[:3, 2] *= 2.5  # SimpleITK takes 1 mm for one slice; its Slice Thickness is known
        assert np.array_equal(values[0], 2.0 * signed - 24.5), name
        assert np.array_equal(pydicom.dcmread(path).pixel_array, signed)
        expect("dicom/%s.dcm" % name, "DICOM", signed, affine=affine, slope=2.0, inter=-24.5, window=[39.5 - 199.5, 39.5 + 199.5])
    d = dataset(a12, uid.ExplicitVRLittleEndian, photometric="MONOCHROME1", bits=12)
    save("dicom/monochrome1.dcm", d, a12.tobytes())
    expect("dicom/monochrome1.dcm", "DICOM", a12, inverted=1, bits=12)
    s12 = ramp((6, 8), "i2", -2048, 2047)
    d = dataset(s12, uid.ExplicitVRLittleEndian, bits=12)  # signed, the upper four bits hold something else
    save("dicom/signed12.dcm", d, (s12.astype("i4") & 0xfff | 0x5000).astype("u2").tobytes())
    expect("dicom/signed12.dcm", "DICOM", s12, bits=12)
    for name, syntax, data in (
            ("jpegls", uid.JPEGLSLossless, imagecodecs.jpegls_encode(a12)),
            ("lossless", uid.JPEGLosslessSV1, imagecodecs.ljpeg_encode(a12, bitspersample=12)),
            ("j2k", uid.JPEG2000Lossless, imagecodecs.jpeg2k_encode(a12, level=0, reversible=True, codecformat="j2k", bitspersample=12))):
        d = dataset(a12, syntax, bits=12)
        save("dicom/%s.dcm" % name, d, encapsulate([data]))
        expect("dicom/%s.dcm" % name, "DICOM", a12, bits=12)
    d = dataset(a12, uid.RLELossless, bits=12)
    d.compress(uid.RLELossless, a12)
    save("dicom/rle.dcm", d)
    expect("dicom/rle.dcm", "DICOM", a12, bits=12)
    g8 = ramp((16, 16), "u1", 0, 255)
    data = imagecodecs.jpeg8_encode(g8, level=95)
    save("dicom/baseline.dcm", dataset(g8, uid.JPEGBaseline8Bit), encapsulate([data]))
    expect("dicom/baseline.dcm", "DICOM", imagecodecs.jpeg8_decode(data))
    rgb = ramp((6, 8, 3), "u1", 0, 255)
    save("dicom/rgb.dcm", dataset(rgb, uid.ExplicitVRLittleEndian, photometric="RGB"), rgb.tobytes())
    expect("dicom/rgb.dcm", "DICOM", rgb, 3)
    d = dataset(rgb, uid.ExplicitVRLittleEndian, photometric="RGB")
    d.PlanarConfiguration = 1
    save("dicom/rgb_planes.dcm", d, np.ascontiguousarray(rgb.transpose(2, 0, 1)).tobytes())
    expect("dicom/rgb_planes.dcm", "DICOM", rgb, 3)
    from pydicom.pixels import convert_color_space
    save("dicom/ybr_full.dcm", dataset(rgb, uid.ExplicitVRLittleEndian, photometric="YBR_FULL"), rgb.tobytes())
    expect("dicom/ybr_full.dcm", "DICOM", convert_color_space(rgb, "YBR_FULL", "RGB"), 3)
    d = dataset(rgb, uid.JPEG2000Lossless, photometric="YBR_RCT")
    save("dicom/j2k_rgb.dcm", d, encapsulate([imagecodecs.jpeg2k_encode(rgb, level=0, reversible=True, codecformat="j2k")]))
    expect("dicom/j2k_rgb.dcm", "DICOM", rgb, 3)
    d = dataset(g8, uid.ExplicitVRLittleEndian, photometric="PALETTE COLOR")
    tables = [((np.arange(256) * k) % 65536).astype("u2") for k in (257, 129, 31)]
    for c, t in zip(("Red", "Green", "Blue"), tables):
        setattr(d, c + "PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(d, c + "PaletteColorLookupTableData", t.tobytes())
    save("dicom/palette.dcm", d, g8.tobytes())
    expect("dicom/palette.dcm", "DICOM", g8, palette=[int(v) for v in np.stack(tables, 1).ravel()], palette_max=65535)
    frames = ramp((3, 4, 5), "u2", 0, 999)
    d = dataset(frames, uid.ExplicitVRLittleEndian, frames=True)
    save("dicom/frames.dcm", d, frames.tobytes())
    expect("dicom/frames.dcm", "DICOM", frames)
    d = dataset(frames, uid.ExplicitVRLittleEndian, frames=True)  # enhanced: functional groups
    shared = pydicom.dataset.Dataset()
    measures, turned, change = (pydicom.dataset.Dataset() for _ in range(3))
    measures.PixelSpacing, measures.SliceThickness = [0.75, 0.5], 9
    turned.ImageOrientationPatient = place[1]
    change.RescaleSlope, change.RescaleIntercept, change.RescaleType = 0.5, 3, "US"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [turned]
    shared.PixelValueTransformationSequence = [change]
    d.SharedFunctionalGroupsSequence = [shared]
    normal = np.cross(place[1][:3], place[1][3:])
    per = []
    for k in range(3):
        g, p = pydicom.dataset.Dataset(), pydicom.dataset.Dataset()
        p.ImagePositionPatient = [float("%.9g" % v) for v in np.array(place[0]) + 1.5 * k * normal]
        g.PlanePositionSequence = [p]
        per.append(g)
    d.PerFrameFunctionalGroupsSequence = per
    save("dicom/enhanced.dcm", d, frames.tobytes())
    m = np.eye(4)
    m[:3, 0], m[:3, 1] = np.array(place[1][:3]) * 0.5, np.array(place[1][3:]) * 0.75
    m[:3, 2] = np.array(per[1].PlanePositionSequence[0].ImagePositionPatient) - np.array(per[0].PlanePositionSequence[0].ImagePositionPatient)
    m[:3, 3] = place[0]
    expect("dicom/enhanced.dcm", "DICOM", frames, affine=LPS @ m, slope=0.5, inter=3.0)
    bit = (np.arange(48).reshape(6, 8) % 3 == 0).astype("u1")
    d = dataset(bit, uid.ExplicitVRLittleEndian)
    d.BitsAllocated = d.BitsStored = 1
    d.HighBit = 0
    save("dicom/bits1.dcm", d, np.packbits(bit.ravel(), bitorder="little").tobytes())
    expect("dicom/bits1.dcm", "DICOM", bit, bits=1)
    f4 = ramp((6, 8), "f4", -2, 9)
    d = dataset(a12, uid.ExplicitVRLittleEndian)
    for k in ("BitsStored", "HighBit", "PixelRepresentation"):
        delattr(d, k)
    d.BitsAllocated = 32
    d.FloatPixelData = f4.tobytes()
    save("dicom/float.dcm", d)
    expect("dicom/float.dcm", "DICOM", f4)
    data = open(os.path.join(here, "dicom/explicit.dcm"), "rb").read()
    put("dicom/no_preamble.dcm", data[132:])
    expected["dicom/no_preamble.dcm"] = expected["dicom/explicit.dcm"]
    put("bad/truncated.dcm", data[:-30])
    for name, change in (("no_pixels", lambda d: delattr(d, "PixelData")), ("spacing0", lambda d: setattr(d, "PixelSpacing", [0, 0.5])),
                         ("sheared", lambda d: setattr(d, "ImageOrientationPatient", [1, 0, 0, 0.5, 0.8, 0])),
                         ("bomb", lambda d: (setattr(d, "Rows", 65000), setattr(d, "Columns", 65000)))):
        d = pydicom.dcmread(os.path.join(here, "dicom/explicit.dcm"))
        change(d)
        save("bad/%s.dcm" % name, d)


# ---- DICOM series ----

def all_series():
    import SimpleITK as sitk
    from pydicom import uid
    turn, tilt = 0.3, 0.2
    rows, columns = [np.cos(turn), np.sin(turn), 0], [-np.sin(turn) * np.cos(tilt), np.cos(turn) * np.cos(tilt), np.sin(tilt)]
    rows, columns = [[float("%.10f" % v) for v in w] for w in (rows, columns)]
    normal = np.cross(rows, columns)
    a = ramp((4, 5, 6), "i2", -1000, 2000)

    def slice_of(folder, name, k, series="1.2.3.4", values=None, **more):
        at = [float("%.8g" % v) for v in np.array([-10.5, 20.25, 3.5]) + 2.5 * k * normal]
        d = dataset(a[k % 4] if values is None else values, uid.ExplicitVRLittleEndian, uid=str(k), rescale=more.pop("rescale", (2, -24.5)),
                    place=(at, rows + columns, [0.75, 0.5], 3))
        d.SeriesInstanceUID, d.InstanceNumber = series, 9 - k
        for key, v in more.items():
            setattr(d, key, v)
        save(os.path.join(folder, name), d, (a[k % 4] if values is None else values).tobytes())

    names = {0: "c.dcm", 1: "a.dcm", 2: "D", 3: "b.IMA"}  # neither names nor instance numbers are in the order of places
    for k, name in names.items():
        slice_of("series/oblique", name, k)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([os.path.join(here, "series/oblique", names[k]) for k in range(4)])
    im = reader.Execute()
    m = np.eye(4)
    m[:3, :3] = np.array(im.GetDirection()).reshape(3, 3) @ np.diag(im.GetSpacing())
    m[:3, 3] = im.GetOrigin()
    assert np.array_equal(sitk.GetArrayFromImage(im), 2.0 * a - 24.5)
    expect("series/oblique", "DICOM", a, affine=LPS @ m, slope=2.0, inter=-24.5)
    for k in range(3):  # PET: a scale for each slice
        slice_of("series/scales", "%d.dcm" % k, k, rescale=(k + 1, k))
    m[:3, 3] = [-10.5, 20.25, 3.5]
    expect("series/scales", "DICOM", np.stack([(k + 1.0) * a[k] + k for k in range(3)]).astype("f4"), affine=LPS @ m)
    for k in (0, 1, 3):
        slice_of("bad/missing", "%d.dcm" % k, k)
    for k in (0, 1, 1, 2):
        slice_of("bad/duplicate", "%d%s.dcm" % (k, "b" if os.path.exists(os.path.join(here, "bad/duplicate/%d.dcm" % k)) and k == 1 else ""), k)
    for k in (0, 1):
        slice_of("bad/several", "a%d.dcm" % k, k, "1.2.3.4.1")
        slice_of("bad/several", "b%d.dcm" % k, k, "1.2.3.4.2")
    slice_of("bad/mixed", "0.dcm", 0)
    slice_of("bad/mixed", "1.dcm", 1, values=ramp((5, 7), "i2", 0, 9))
    slice_of("bad/localizer", "0.dcm", 0)
    slice_of("bad/localizer", "1.dcm", 1, ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    slice_of("bad/placeless", "0.dcm", 0)
    slice_of("bad/placeless", "1.dcm", 1, ImagePositionPatient=None)


# ---- NRRD, MetaImage, NIfTI, BMP ----

def all_volumes():
    import SimpleITK as sitk
    import nibabel
    turn = 0.4
    c, s = np.cos(turn), np.sin(turn)
    direction = np.array([[c, -s, 0], [0, 0, 1], [-s, -c, 0]])
    for t in ("u1", "i1", "u2", "i2", "u4", "i4", "i8", "f4", "f8"):
        d = np.dtype(t)
        low, high = (-1.5e3, 2.25e4) if d.kind == "f" else (max(np.iinfo(d).min, -2**52), min(np.iinfo(d).max, 2**52))
        a = ramp((3, 4, 5), d, low, high)
        im = sitk.GetImageFromArray(a)
        im.SetSpacing([0.5, 0.75, 2.5])
        im.SetOrigin([10.5, -20.25, 30])
        im.SetDirection(direction.ravel())
        names = ["%s.nrrd" % d.name, "%s.mha" % d.name] + (["file.nhdr", "file.MHD", "plain.nrrd", "plain.mha"] if t == "i2" else [])
        for name in names:
            path = os.path.join(here, "volume", name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            written = path if name != "file.MHD" else path[:-4] + ".mhd"  # SimpleITK knows the lower case alone
            sitk.WriteImage(im, written, useCompression=not name.startswith("plain"))
            if written != path:
                os.rename(written, path)
                affine = expected["volume/int16.mha"]["affine"] if "volume/int16.mha" in expected else None
            else:
                affine, values = sitk_affine(path)
                assert np.array_equal(values, a), name
            fmt = "NRRD" if name.endswith(("nrrd", "nhdr")) else "MetaImage"
            expect("volume/" + name, fmt, a, affine=affine)
    text = ("NRRD0004\ntype: short\ndimension: 3\nspace: %s\nsizes: 5 4 3\nspace directions: (0.5,0,0) (0,0.75,0.1) (0,0,2.5)\n"
            "space origin: (1,2,3)\n%s\n\n")
    a = ramp((3, 4, 5), "i2", -300, 3000)
    for name, space, more, data in (("ascii.nrrd", "RAS", "encoding: ascii", " ".join(map(str, a.ravel())).encode()),
                                    ("big.nrrd", "left-anterior-superior", "encoding: raw\nendian: big", a.astype(">i2").tobytes()),
                                    ("skip.nrrd", "LPS", "encoding: raw\nendian: little\nbyte skip: -1", b"to be skipped" + a.tobytes())):
        put("volume/" + name, (text % (space, more)).encode() + data)
        m = np.eye(4)
        m[:3, 0], m[:3, 1], m[:3, 2], m[:3, 3] = [0.5, 0, 0], [0, 0.75, 0.1], [0, 0, 2.5], [1, 2, 3]
        flip = {"RAS": [1, 1], "LPS": [-1, -1], "left-anterior-superior": [-1, 1]}[space]
        expect("volume/" + name, "NRRD", a, affine=np.diag(flip + [1, 1]) @ m)
    head = "ObjectType = Image\nNDims = 3\nDimSize = 5 4 3\nElementType = MET_SHORT\nElementSpacing = 0.5 0.75 2.5\n%sElementDataFile = %s\n"
    put("volume/big.mha", (head % ("ElementByteOrderMSB = True\n", "LOCAL")).encode() + a.astype(">i2").tobytes())
    expect("volume/big.mha", "MetaImage", a, affine=np.diag([-0.5, -0.75, 2.5, 1]))
    put("bad/outside.mhd", (head % ("", "../secret.raw")).encode())
    put("bad/list.mhd", (head % ("", "LIST")).encode())
    put("bad/short.mha", (head % ("", "LOCAL")).encode() + a.tobytes()[:-7])
    put("bad/spacing0.mha", (head % ("", "LOCAL")).replace("0.75", "0").encode() + a.tobytes())
    put("bad/spacingnan.mha", (head % ("", "LOCAL")).replace("0.75", "nan").encode() + a.tobytes())
    put("bad/time.mha", (head % ("", "LOCAL")).replace("NDims = 3", "NDims = 4").replace("5 4 3", "5 4 3 2").encode() + a.tobytes())
    put("bad/bzip2.nrrd", (text % ("RAS", "encoding: bzip2\nendian: little")).encode() + a.tobytes())
    put("bad/bomb.nrrd", (text % ("RAS", "encoding: gzip\nendian: little")).replace("5 4 3", "60000 60000 60000").encode() + a.tobytes())
    put("bad/flat.nrrd", (text % ("RAS", "encoding: raw\nendian: little")).replace("(0,0.75,0.1)", "(1,0,0)").encode() + a.tobytes())
    put("bad/time.nrrd", (text % ("RAS", "encoding: raw\nendian: little")).replace("dimension: 3", "dimension: 4").replace("5 4 3", "5 4 3 2").encode())
    for name, big, form in (("sform.nii", "<", "s"), ("qform.nii.gz", ">", "q"), ("pair.hdr", "<", "s")):
        m = LPS @ np.vstack([np.hstack([direction @ np.diag([0.5, 0.75, 2.5]), [[1.5], [2.5], [-3.5]]]), [0, 0, 0, 1]])
        kind = nibabel.Nifti1Pair if name.endswith("hdr") else nibabel.Nifti1Image
        im = kind(a.transpose(2, 1, 0), None, nibabel.Nifti1Header(endianness=big))
        (im.header.set_sform if form == "s" else im.header.set_qform)(m, 1)
        im.set_data_dtype(np.int16)
        im.header["pixdim"][1:4] = [0.5, 0.75, 2.5]
        path = os.path.join(here, "volume", name)
        nibabel.save(im, path)
        back = nibabel.load(path)
        assert np.array_equal(np.asarray(back.dataobj), a.transpose(2, 1, 0))
        expect("volume/" + name, "NIfTI", a, affine=back.affine)
    from PIL import Image
    rgb = ramp((5, 7, 3), "u1", 0, 255)
    Image.fromarray(rgb).save(os.path.join(here, "rgb.BMP"))
    expect("rgb.BMP", "BMP", rgb, 3)
    p = Image.fromarray((np.arange(35).reshape(5, 7) % 9).astype("u1"), "P")
    colours = [(53 * i) % 256 for i in range(27)]
    p.putpalette(colours)
    p.save(os.path.join(here, "palette.bmp"))
    back = Image.open(os.path.join(here, "palette.bmp"))
    palette = back.getpalette()
    expect("palette.bmp", "BMP", np.asarray(back), palette=(palette + [0] * 768)[:3 * 9] if len(palette) < 768 else palette)
    bit = (np.arange(35).reshape(5, 7) % 3 == 0)
    Image.fromarray(bit).save(os.path.join(here, "bits1.bmp"))
    expect("bits1.bmp", "BMP", bit.astype("u1"), bits=1)
    Image.fromarray(rgb[..., 1]).save(os.path.join(here, "grey.bmp"))
    expect("grey.bmp", "BMP", rgb[..., 1])
    data = open(os.path.join(here, "rgb.BMP"), "rb").read()
    put("bad/truncated.bmp", data[:-9])


def main():
    warnings.filterwarnings("ignore")
    shutil.rmtree(here, ignore_errors=True)
    os.makedirs(os.path.join(here, "bad"))
    for make in (all_png, all_jpeg, all_tiff, all_j2k, all_dicom, all_series, all_volumes):
        make()
    with open(os.path.join(here, "expected.json"), "w") as f:
        json.dump(expected, f, separators=(",", ":"), sort_keys=True)
        f.write("\n")


main()

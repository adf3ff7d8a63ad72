"""`mcsam convert` against the references: open_clip, transformers (CLIPModel, SamModel) and segment-anything load what it wrote, strictly,
and give the same outputs; every layout comes back bit for bit.

    python tests/ref/convert_models.py build/mcsam [--full] [--port FOLDER] [--transformers4 FOLDER]

--full: ViT-B-32 of OpenAI's size, BiomedCLIP and SAM ViT-B (random weights, 3 GB of files). --port: saliency_maps/model of
https://github.com/HealthX-Lab/MedCLIP-SAMv2, whose model loads its layout; it needs transformers 4, which may lie in a folder
(pip install --target FOLDER --no-deps transformers==4.46.3 'tokenizers<0.21' 'huggingface_hub<1' requests urllib3 idna certifi charset-normalizer).
Needs open_clip_torch, timm, transformers, segment-anything, safetensors."""
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import open_clip
import timm
import torch
from safetensors.torch import load_file, save_file
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from timm.models.vision_transformer import VisionTransformer
from transformers import BertConfig, BertTokenizerFast, CLIPModel, SamModel

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
program, full = sys.argv[1], "--full" in sys.argv
port, four = [sys.argv[sys.argv.index(word) + 1] if word in sys.argv else None for word in ("--port", "--transformers4")]
work = Path(tempfile.mkdtemp(prefix="convert_"))
failed = 0


def row(what, error, limit):
    global failed
    failed += not error <= limit
    print(f"{what:66} {error:10.2e} {limit:8.0e}  {'right' if error <= limit else 'WRONG'}", flush=True)


def convert(src, dst, *words):
    done = subprocess.run([program, "convert", str(src), "-o", str(dst), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dst


def differs(a, b):
    """Number of tensors that differ in name, type, shape or a bit."""
    names = set(a) ^ set(b)
    return len(names) + sum(a[k].dtype != b[k].dtype or a[k].shape != b[k].shape or not torch.equal(a[k], b[k]) for k in set(a) & set(b))


def furthest(got, want):
    """The largest difference, relative to the range of what is wanted."""
    return max(float((g - w).abs().max() / w.abs().max()) for g, w in zip(got, want))


def randomise(model):
    torch.manual_seed(5)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim:
                p.normal_(1.0 if name.endswith("weight") and p.ndim == 1 else 0.0, 0.2 if p.ndim == 1 else 0.5 / p.shape[-1] ** 0.5)
    return model.eval()


# ---- OpenAI's towers ----

def clip_outputs(model, pixels, ids, hugging):
    with torch.no_grad():
        if hugging:
            out = model(pixel_values=pixels, input_ids=ids)
            return [out.image_embeds, out.text_embeds, out.logits_per_image]
        image, text = model.encode_image(pixels, normalize=True), model.encode_text(ids, normalize=True)
        return [image, text, model.logit_scale.exp() * image @ text.T]


def check_openai(quick):
    what = "CLIP ViT-B-32" if full else "CLIP, small"
    what += ", QuickGELU" if quick else ", GELU"
    if full:
        model_cfg = dict(embed_dim=512, quick_gelu=quick, vision_cfg=dict(image_size=224, layers=12, width=768, patch_size=32),
                         text_cfg=dict(context_length=77, vocab_size=49408, width=512, heads=8, layers=12))
    else:
        model_cfg = dict(embed_dim=20, quick_gelu=quick, vision_cfg=dict(image_size=24, layers=3, width=48, patch_size=8, head_width=12),
                         text_cfg=dict(context_length=9, vocab_size=99, width=32, heads=4, layers=2))
    config = {"model_cfg": model_cfg, "preprocess_cfg": {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}}
    name = f"openai_{int(quick)}"
    folder = work / name
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    model = randomise(open_clip.create_model(f"local-dir:{folder}", load_weights=False))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    size, vocab, length = model_cfg["vision_cfg"]["image_size"], model_cfg["text_cfg"]["vocab_size"], model_cfg["text_cfg"]["context_length"]
    pixels = torch.randn(3, 3, size, size)
    ids = torch.randint(1, vocab - 2, (3, length))
    ids[:, 0] = vocab - 2
    for i, end in enumerate([length - 1, 4, 2]):
        ids[i, end], ids[i, end + 1:] = vocab - 1, 0
    want = clip_outputs(model, pixels, ids, False)

    hf = convert(folder, work / f"{name}_hf", "--to", "huggingface")
    hugging, info = CLIPModel.from_pretrained(hf, output_loading_info=True)
    row(f"{what}: transformers, keys that do not fit", sum(len(v) for v in info.values()), 0)
    row(f"{what}: transformers, outputs", furthest(clip_outputs(hugging.eval(), pixels, ids, True), want), 1e-5)
    own = work / f"{name}_saved"
    hugging.save_pretrained(own)  # what transformers writes itself
    (own / "preprocessor_config.json").write_text((hf / "preprocessor_config.json").read_text())
    back = convert(own, work / f"{name}_back", "--to", "open_clip", "--format", "torch")
    row(f"{what}: back from transformers, tensors that differ", differs(torch.load(back / "open_clip_pytorch_model.bin"), model.state_dict()), 0)
    again = open_clip.create_model(f"local-dir:{back}").eval()
    row(f"{what}: open_clip, outputs", furthest(clip_outputs(again, pixels, ids, False), want), 0)
    custom = convert(own, work / f"{name}_custom", "--to", "open_clip-custom-text")
    again = open_clip.create_model(f"local-dir:{custom}").eval()
    assert type(again).__name__ == "CustomTextCLIP"
    row(f"{what}: open_clip's CustomTextCLIP, outputs", furthest(clip_outputs(again, pixels, ids, False), want), 0)
    row(f"{what}: back from CustomTextCLIP, tensors that differ",
        differs(load_file(convert(custom, work / f"{name}_2.safetensors", "--to", "open_clip")), model.state_dict()), 0)
    epoch = convert(hf, work / f"{name}_epoch_3.pt", "--to", "open_clip-checkpoint")
    again = open_clip.create_model(f"local-dir:{folder}", load_weights=False).eval()
    open_clip.load_checkpoint(again, str(epoch), strict=True)
    row(f"{what}: a training checkpoint, outputs", furthest(clip_outputs(again, pixels, ids, False), want), 0)
    row(f"{what}: back from the checkpoint, tensors that differ",
        differs(load_file(convert(epoch, work / f"{name}_3.safetensors", "--to", "huggingface")), load_file(hf / "model.safetensors")), 0)


# ---- BiomedCLIP's form ----

@timm.models.register_model
def vit_golden(pretrained=False, **kwargs):
    kwargs = {k: v for k, v in kwargs.items() if k in ("num_classes", "global_pool")}
    vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, **kwargs)
    vit.default_cfg = vit.pretrained_cfg = {}
    return vit


def check_biomed():
    what = "BiomedCLIP" if full else "BiomedCLIP's form, small"
    folder, size = work / "biomed", 224 if full else 32
    folder.mkdir()
    pieces = (GOLDEN / "tokenizer_vocab.txt").read_text(encoding="utf-8").splitlines()
    if full:
        pieces += [f"filler{i}" for i in range(30522 - len(pieces))]
    (work / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    BertTokenizerFast(vocab=str(work / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    (folder / "vocab.txt").write_bytes((work / "vocab.txt").read_bytes())
    small = {} if full else dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, max_position_embeddings=64)
    BertConfig(vocab_size=len(pieces), **small).save_pretrained(folder)
    vision = {"timm_model_name": "vit_base_patch16_224" if full else "vit_golden", "timm_model_pretrained": False, "timm_pool": "",
              "timm_proj": "linear", "image_size": size}
    text = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder), "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": 256 if full else 32}
    config = {"model_cfg": {"embed_dim": 512 if full else 16, "vision_cfg": vision, "text_cfg": text},
              "preprocess_cfg": {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}}
    if not full:
        config["mcsam_cfg"] = {"vision_cfg": {"width": 32, "layers": 2, "heads": 2, "mlp_width": 128, "patch_size": 8}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    model = randomise(open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False))
    tensors = {k: v.contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    there = convert(folder, work / "biomed_port", "--to", "medclip-samv2", "--format", "torch")
    back = convert(there, work / "biomed_back", "--to", "open_clip")
    row(f"{what}: back from MedCLIP-SAMv2's names, tensors that differ", differs(load_file(back / "open_clip_model.safetensors"), tensors), 0)
    epoch = work / "epoch_1.pt"
    torch.save({"epoch": 1, "name": "x", "state_dict": {"module." + k: v for k, v in tensors.items()}, "optimizer": {"state": {}}}, epoch)
    row(f"{what}: a training checkpoint, tensors that differ",
        differs(torch.load(convert(epoch, work / "epoch.bin", "--to", "open_clip")), tensors), 0)
    got = torch.load(convert(epoch, work / "epoch_port.bin", "--to", "medclip-samv2"))
    row(f"{what}: the checkpoint in MedCLIP-SAMv2's names", differs(got, torch.load(there / "pytorch_model.bin")), 0)
    again = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False).eval()
    again.load_state_dict(load_file(back / "open_clip_model.safetensors"), strict=True)
    pixels, ids = torch.randn(2, 3, size, size), torch.randint(5, 60, (2, 12))
    with torch.no_grad():
        want = [model.encode_image(pixels), model.encode_text(ids)]
        row(f"{what}: open_clip, outputs", furthest([again.encode_image(pixels), again.encode_text(ids)], want), 0)
    torch.save({"pixels": pixels, "ids": ids, "image": want[0], "text": want[1]}, work / "biomed_want.pt")
    if port:
        code = f"""
import importlib, shutil, sys
sys.path[:0] = {[four] if four else []!r}
import torch
shutil.copytree({port!r}, {str(work / 'portcode')!r}, dirs_exist_ok=True)
sys.path.insert(0, {str(work)!r})
config = importlib.import_module("portcode.configuration_biomed_clip").BiomedCLIPConfig.from_pretrained({str(there)!r})
model = importlib.import_module("portcode.modeling_biomed_clip").BiomedCLIPModel(config).eval()
print(model.load_state_dict(torch.load({str(there / 'pytorch_model.bin')!r}), strict=False))
want = torch.load({str(work / 'biomed_want.pt')!r})
with torch.no_grad():
    got = [model.get_image_features(want["pixels"]), model.get_text_features(want["ids"], attention_mask=(want["ids"] != 0).long())]
print(max(float((g - want[k]).abs().max() / want[k].abs().max()) for g, k in zip(got, ("image", "text"))))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        lines = done.stdout.strip().splitlines()
        assert done.returncode == 0 and "All keys matched" in lines[-2], done.stdout + done.stderr
        row(f"{what}: MedCLIP-SAMv2's model, outputs", float(lines[-1]), 1e-5)


# ---- SAM ----

def check_sam():
    what, size = ("SAM ViT-B", 1024) if full else ("SAM, small", 64)
    width, depth, heads, out, glob, window, mlp = (768, 12, 12, 256, (2, 5, 8, 11), 14, 2048) if full else (24, 3, 2, 16, (2,), 3, 20)
    patch = 16 if full else 8
    sam = Sam(ImageEncoderViT(img_size=size, patch_size=patch, embed_dim=width, depth=depth, num_heads=heads, mlp_ratio=4, out_chans=out,
                              norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), qkv_bias=True, use_rel_pos=True, window_size=window,
                              global_attn_indexes=glob),
              PromptEncoder(embed_dim=out, image_embedding_size=(size // patch,) * 2, input_image_size=(size, size), mask_in_chans=16),
              MaskDecoder(transformer_dim=out, transformer=TwoWayTransformer(depth=2, embedding_dim=out, num_heads=8 if full else 2, mlp_dim=mlp),
                          num_multimask_outputs=3, iou_head_depth=3, iou_head_hidden_dim=256 if full else 18))
    randomise(sam)
    folder = work / "sam"
    folder.mkdir()
    torch.save(sam.state_dict(), folder / "sam_vit_b_01ec64.pth")
    if not full:
        (folder / "sam_config.json").write_text(json.dumps({
            "image_size": size, "patch": patch, "width": width, "depth": depth, "heads": heads, "window": window, "mlp": 4 * width,
            "embed": out, "d_heads": 2, "d_mlp": mlp, "d_downsample": 2, "mask_in": 16, "global": list(glob)}))
    hf = convert(folder / "sam_vit_b_01ec64.pth", work / "sam_hf", "--to", "huggingface")
    hugging, info = SamModel.from_pretrained(hf, output_loading_info=True)
    row(f"{what}: transformers, keys that do not fit", sum(len(v) for v in info.values()), 0)
    pixels = torch.randn(1, 3, size, size)
    points, labels = torch.tensor([[[10.0, 20.0], [40.0, 5.0]]]), torch.tensor([[1, 0]])
    boxes = torch.tensor([[8.0, 6.0, 40.0, 50.0]])
    with torch.no_grad():
        embedding = sam.image_encoder(pixels)
        want, got = [embedding], [hugging.eval().get_image_embeddings(pixels)]
        for kind in ("points", "box"):
            p = (points, labels) if kind == "points" else None
            sparse, dense = sam.prompt_encoder(points=p, boxes=boxes if kind == "box" else None, masks=None)
            want += sam.mask_decoder(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=True)
            words = dict(input_points=points[None], input_labels=labels[None]) if kind == "points" else dict(input_boxes=boxes[None])
            o = hugging(image_embeddings=got[0], multimask_output=True, **words)
            got += [o.pred_masks[0], o.iou_scores[0]]
    row(f"{what}: transformers, embedding, masks, scores", furthest([g.reshape(w.shape) for g, w in zip(got, want)], want), 1e-5)
    own = work / "sam_saved"
    hugging.save_pretrained(own)  # what transformers writes itself
    back = convert(own, work / "sam_back", "--to", "segment-anything")
    row(f"{what}: back from transformers, tensors that differ", differs(torch.load(back / "sam.pth"), sam.state_dict()), 0)
    if full:
        from segment_anything import sam_model_registry
        row(f"{what}: segment-anything, embedding", furthest([sam_model_registry["vit_b"](checkpoint=str(back / "sam.pth")).image_encoder(pixels)], [embedding]), 0)
    else:
        sam.load_state_dict(torch.load(back / "sam.pth"), strict=True)
        row(f"{what}: sam_config.json comes back", float(json.loads((back / "sam_config.json").read_text()) != json.loads((folder / "sam_config.json").read_text())), 0)
    medsam = work / "medsam_model_best.pth"
    torch.save({"model": {"module." + k: v for k, v in sam.state_dict().items()}, "optimizer": {}, "epoch": 3}, medsam)
    row(f"{what}: MedSAM's training checkpoint, tensors that differ", differs(torch.load(convert(medsam, work / "medsam_vit_b.pth")), sam.state_dict()), 0)


print(f"{'quantity':66} {'error':>10} {'limit':>8}  verdict")
check_openai(True)
check_openai(False)
check_biomed()
check_sam()
sys.exit(failed > 0)

"""sam.safetensors: image encoder, every kind of prompt, mask decoder, post-processing and gradients of a toy SAM."""
from functools import partial

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom

from formula import fill, given, gradients, save

FRAME, GRID, DIM = 64, 8, 16

# The reference casts coordinates to float32 (exact here: the frame is a power of two); the matrix is float64.
encode = PositionEmbeddingRandom._pe_encoding
PositionEmbeddingRandom._pe_encoding = lambda self, xy: encode(self, xy.double())
torch.set_default_dtype(torch.float64)

sam = fill(Sam(
    ImageEncoderViT(img_size=FRAME, patch_size=FRAME // GRID, embed_dim=16, depth=3, num_heads=2, out_chans=DIM,
                    norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), use_rel_pos=True, window_size=5,
                    global_attn_indexes=(2,)),
    PromptEncoder(embed_dim=DIM, image_embedding_size=(GRID, GRID), input_image_size=(FRAME, FRAME), mask_in_chans=16),
    MaskDecoder(transformer_dim=DIM, transformer=TwoWayTransformer(depth=2, embedding_dim=DIM, num_heads=2, mlp_dim=16),
                num_multimask_outputs=3, iou_head_depth=3, iou_head_hidden_dim=16)),
    buffers=("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",)).eval()

points = torch.tensor([[[10.0, 20.0], [40.0, 5.0], [33.5, 61.25]], [[55.0, 8.0], [3.0, 3.0], [20.0, 30.0]]])
labels = torch.tensor([[1, 0, 1], [1, 1, 0]])
boxes = torch.tensor([[8.0, 6.0, 40.0, 50.0], [20.5, 3.0, 63.0, 30.25]])
masks = 4 * given("input.mask", 2, 1, 4 * GRID, 4 * GRID)
PROMPTS = {  # name: points, labels, boxes, masks
    "none": (None, None, None, None),
    "point": (points[:1, :1], labels[:1, :1], None, None),
    "points": (points, labels, None, None),
    "box": (None, None, boxes, None),
    "box_points": (points, labels, boxes, None),
    "mask": (None, None, None, masks[:1]),
    "mask_box": (None, None, boxes, masks),
}
out = {"input.points": points, "input.labels": labels, "input.boxes": boxes}


def keep(name):
    return lambda module, args, output: out.__setitem__(name, output)


enc = sam.image_encoder
enc.patch_embed.register_forward_hook(keep("encoder.patches"))
for i, block in enumerate(enc.blocks):
    block.register_forward_hook(keep(f"encoder.block.{i}"))
embedding = enc(given("input.image", 1, 3, FRAME, FRAME))
out["embedding"] = embedding
out["dense_pe"] = pe = sam.prompt_encoder.get_dense_pe()

for name, (xy, label, box, mask) in PROMPTS.items():
    sparse, dense = sam.prompt_encoder((xy, label) if xy is not None else None, box, mask)
    low, iou = sam.mask_decoder.predict_masks(embedding, pe, sparse, dense)
    out |= {f"{name}.low_res": low, f"{name}.iou": iou}
    if sparse.shape[1]:
        out[f"{name}.sparse"] = sparse
    if mask is not None:
        out[f"{name}.dense"] = dense
    if name in ("points", "box", "mask_box"):  # together they reach every embedding
        wl, wi = given("input.weight.low_res", *low.shape), given("input.weight.iou", *iou.shape)
        loss = (low * wl).sum() + (iou * wi).sum()
        sam.zero_grad()
        loss.backward(retain_graph=True)
        out[f"{name}.loss"] = loss
        part, prefix = (sam, "") if name == "box" else (sam.prompt_encoder, "prompt_encoder.")
        out |= {f"{name}.{k}": v for k, v in gradients(part, prefix).items()}
        out[f"{name}.grad.embedding"], = torch.autograd.grad(loss, embedding, retain_graph=True)

# A 48 (high) x 37 (wide) picture fills 64 x 49 of the frame, a 30 x 100 one 19 x 64.
for h, w in ((48, 37), (30, 100)):
    scale = FRAME / max(h, w)
    inner = int(h * scale + 0.5), int(w * scale + 0.5)
    out[f"upscaled.{h}x{w}"] = sam.postprocess_masks(out["box.low_res"][:1, :1], inner, (h, w))
if __name__ == "__main__":
    save("sam.safetensors", out)

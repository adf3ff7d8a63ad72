"""layouts.tsv: names and shapes of the tensors of one small model in each layout, as the references have them.

    python tests/golden/make_layouts.py CONVERT.py

CONVERT.py: saliency_maps/model/convert.py of https://github.com/HealthX-Lab/MedCLIP-SAMv2, whose convert_state_dict gives its
names of BiomedCLIP."""
import ast
import contextlib
import io
import os
import re
import sys

import open_clip
import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from transformers import CLIPConfig, CLIPModel, SamConfig, SamModel

import tiny_clip

here = os.path.dirname(os.path.abspath(__file__))


def upstream(path):
    """The converter's table and function, without its imports."""
    keep = [n for n in ast.parse(open(path).read()).body
            if getattr(n, "name", "") == "convert_state_dict" or
            (isinstance(n, ast.Assign) and n.targets[0].id == "STATE_DICT_PATTERNS")]
    space = {"re": re}
    exec(compile(ast.Module(keep, []), path, "exec"), space)
    return space["convert_state_dict"]


def of(model):
    return model.state_dict()


vision = dict(image_size=16, layers=1, width=12, patch_size=8, head_width=6, mlp_ratio=2)
text = dict(context_length=5, vocab_size=11, width=8, heads=2, layers=1, mlp_ratio=2)
hugging_clip = CLIPConfig(
    projection_dim=4,
    text_config=dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=11,
                     max_position_embeddings=5, bos_token_id=9, eos_token_id=10),
    vision_config=dict(hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, image_size=16, patch_size=8))
sam = Sam(
    ImageEncoderViT(img_size=32, patch_size=8, embed_dim=12, depth=1, num_heads=2, mlp_ratio=2, out_chans=16, qkv_bias=True,
                    use_rel_pos=True, window_size=2, global_attn_indexes=()),
    PromptEncoder(embed_dim=16, image_embedding_size=(4, 4), input_image_size=(32, 32), mask_in_chans=8),
    MaskDecoder(transformer_dim=16, transformer=TwoWayTransformer(depth=1, embedding_dim=16, num_heads=2, mlp_dim=20),
                iou_head_hidden_dim=18))
hugging_sam = SamConfig(
    vision_config=dict(hidden_size=12, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8, output_channels=16,
                       window_size=2, global_attn_indexes=[], mlp_dim=24, num_pos_feats=8),
    prompt_encoder_config=dict(hidden_size=16, image_size=32, patch_size=8, mask_input_channels=8),
    mask_decoder_config=dict(hidden_size=16, mlp_dim=20, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=18))

biomed = of(tiny_clip.TinyClip(1))
with contextlib.redirect_stdout(io.StringIO()):
    port = upstream(sys.argv[1])(biomed)
layouts = [("OPEN_CLIP_BERT", biomed), ("MEDCLIP_SAMV2", port),
           ("OPEN_CLIP_OPENAI", of(open_clip.model.CLIP(4, vision, text))),
           ("OPEN_CLIP_CUSTOM", of(open_clip.model.CustomTextCLIP(4, vision, text))),
           ("HUGGINGFACE_CLIP", of(CLIPModel(hugging_clip))),
           ("SEGMENT_ANYTHING", of(sam)), ("HUGGINGFACE_SAM", of(SamModel(hugging_sam)))]
with open(os.path.join(here, "layouts.tsv"), "w", encoding="utf-8") as f:
    for layout, tensors in layouts:
        for name in sorted(tensors):
            f.write(f"{layout}\t{name}\t{','.join(map(str, tensors[name].shape))}\n")

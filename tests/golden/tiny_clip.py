"""A BiomedCLIP of toy size, from open_clip's own classes, so that tensor names are those of real checkpoints."""
import timm
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel
from timm.models.vision_transformer import VisionTransformer
from transformers import BertConfig

from formula import fill

WIDTH, HEADS, EMBED, IMAGE, PATCH = 32, 2, 16, 32, 8


@timm.models.register_model
def vit_golden(pretrained=False, depth=2, **kwargs):
    """LN eps 1e-6, class token, qkv bias: the defaults of timm's ViT, as in vit_base_patch16_224."""
    vit = VisionTransformer(img_size=IMAGE, patch_size=PATCH, embed_dim=WIDTH, depth=depth, num_heads=HEADS)
    vit.default_cfg = {}
    return vit


class TinyClip(torch.nn.Module):
    """Same members as open_clip's CustomTextCLIP: visual, text, logit_scale."""

    def __init__(self, depth):
        super().__init__()
        create = timm.create_model
        timm.create_model = lambda name, **kw: create(name, depth=depth, **kw)
        self.visual = TimmModel("vit_golden", embed_dim=EMBED, image_size=IMAGE, pool="", proj="linear")
        timm.create_model = create
        config = BertConfig(vocab_size=64, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=HEADS,
                            intermediate_size=64, max_position_embeddings=24, layer_norm_eps=1e-12, pad_token_id=0,
                            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        self.text = HFTextEncoder("", EMBED, config=config, pooler_type="cls_last_hidden_state_pooler", proj_type="mlp",
                                  pretrained=False)
        self.text.transformer.pooler = None
        self.logit_scale = torch.nn.Parameter(torch.zeros(()))
        fill(self).eval()


def texts():
    """Three texts of 12, 7 and 3 tokens; [CLS] 2, [SEP] 3, padding 0."""
    rows = [[2, 17, 33, 8, 60, 5, 41, 22, 9, 63, 12, 3], [2, 44, 10, 10, 29, 51, 3], [2, 7, 3]]
    return torch.tensor([r + [0] * (12 - len(r)) for r in rows])

"""openai_clip.safetensors: towers, contrastive loss and gradients of toy CLIPs other than BiomedCLIP, from open_clip's own classes.

quick.: OpenAI's CLIP (QuickGELU, class CLIP), every gradient. gelu.: the same towers with GELU under CustomTextCLIP's names, the mean of
the patches pooled. mean.: a timm ViT and a BERT, both pooled by their mean, linear text projection. cls.: the same pooled by the class
token, the BERT through its pooler layer, no text projection."""
import timm
import torch
import torch.nn.functional as F
from open_clip import CLIP, CustomTextCLIP
from open_clip.hf_model import HFTextEncoder
from open_clip.loss import ClipLoss
from open_clip.timm_model import TimmModel
from timm.models.vision_transformer import VisionTransformer
from transformers import BertConfig

from formula import fill, given, gradients, save

VISION = dict(image_size=12, patch_size=4, width=8, head_width=4, layers=2)
TEXT = dict(context_length=12, vocab_size=64, width=8, heads=2, layers=2)
OPENAI_IDS = [[62, 17, 33, 8, 60, 5, 41, 22, 9, 0, 12, 63], [62, 44, 0, 10, 29, 51, 63], [62, 63]]
BERT_IDS = [[2, 17, 33, 8, 60, 5, 41, 22, 9, 63, 12, 3], [2, 44, 10, 10, 29, 51, 3], [2, 3]]
out = {}


@timm.models.register_model
def vit_golden(pretrained=False, **kwargs):
    vit = VisionTransformer(img_size=12, patch_size=4, embed_dim=8, depth=2, num_heads=2)
    vit.default_cfg = vit.pretrained_cfg = {}
    return vit


class BertClip(torch.nn.Module):
    def __init__(self, image_pool, text_pool, text_proj):
        super().__init__()
        self.visual = TimmModel("vit_golden", embed_dim=8, image_size=12, pool=image_pool, proj="linear")
        config = BertConfig(vocab_size=64, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                            max_position_embeddings=12, layer_norm_eps=1e-12, pad_token_id=0, hidden_dropout_prob=0.0,
                            attention_probs_dropout_prob=0.0)
        self.text = HFTextEncoder("", 8, config=config, pooler_type=text_pool, proj_type=text_proj, pretrained=False)
        if text_pool == "mean_pooler":
            self.text.transformer.pooler = None
        self.logit_scale = torch.nn.Parameter(torch.zeros(()))

    def encode_image(self, x):
        return self.visual(x)

    def encode_text(self, x):
        return self.text(x)


def run(prefix, clip, ids, keep_grads):
    fill(clip).eval()
    for name, buffer in clip.named_buffers():  # the masks
        buffer.data = buffer.double() if buffer.is_floating_point() else buffer
    tokens = torch.tensor([r + [0] * (12 - len(r)) for r in ids])
    image, text = clip.encode_image(given("input.image", 3, 3, 12, 12)), clip.encode_text(tokens)
    loss = ClipLoss()(F.normalize(image, dim=-1), F.normalize(text, dim=-1), clip.logit_scale.exp())
    loss.backward()
    result = {"ids": tokens, "image.raw": image, "text.raw": text, "loss": loss}
    result.update({k: v for k, v in gradients(clip).items() if keep_grads(k)})
    out.update({prefix + k: v for k, v in result.items()})


run("quick.", CLIP(8, VISION, TEXT, quick_gelu=True), OPENAI_IDS, lambda name: True)
run("gelu.", CustomTextCLIP(8, {**VISION, "pool_type": "avg"}, TEXT), OPENAI_IDS,
    lambda name: "conv1" in name or "token_embedding" in name or "c_fc" in name)
run("mean.", BertClip("avg", "mean_pooler", "linear"), BERT_IDS, lambda name: "patch_embed" in name or "word_embeddings" in name or "norm" in name)
run("cls.", BertClip("", "cls_pooler", None), BERT_IDS, lambda name: "patch_embed" in name or "pooler" in name or "norm" in name)
save("openai_clip.safetensors", out)

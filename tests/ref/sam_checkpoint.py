"""A full-size SAM with random weights, as segment-anything's own module makes and torch.save writes it:

    python3 sam_checkpoint.py vit_h sam_vit_h.pth [more.safetensors ...]

A file that ends in .safetensors is written as such; one that ends in _legacy.pth as torch before 1.6 did. Weights are
drawn so that activations keep the size that trained weights give them: without relative positions and layer scales of
a trained model, logits would be so small that nothing is compared.
"""
import sys

import torch
from segment_anything import sam_model_registry


def checkpoint(kind, seed=0):
    torch.manual_seed(seed)
    model = sam_model_registry[kind]().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                p.normal_(0, 0.1)
            elif name.endswith("bias"):
                p.normal_(0, 0.02)
    return model


def write(state, path):
    if path.endswith(".safetensors"):
        from safetensors.torch import save_file
        save_file({k: v.contiguous() for k, v in state.items()}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=not path.endswith("_legacy.pth"))


if __name__ == "__main__":
    state = checkpoint(sys.argv[1]).state_dict()
    for path in sys.argv[2:]:
        write(state, path)
        print(path)

"""unet2d.safetensors, unet3d.safetensors: nnU-Net's plain U-Net, its loss with deep supervision, all gradients."""
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn

from formula import fill, given, gradients, save, uniform


def run(file, features, conv, norm, kernels, strides, size):
    net = fill(PlainConvUNet(1, len(features), features, conv, kernels, strides, 2, 2, 2, conv_bias=True,
                             norm_op=norm, norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU,
                             nonlin_kwargs={"negative_slope": 0.01}, deep_supervision=True))
    # foreground where u > 0.3, about a third; sample 1 keeps only its first half, so that batch_dice matters
    target = torch.from_numpy((uniform("input.target", (2, 1, *size)) > 0.3).astype("int64"))
    target[1].reshape(-1)[target[1].numel() // 2:] = 0
    outputs = net(given("input.image", 2, 1, *size))
    targets = [target] + [nn.functional.interpolate(target.float(), o.shape[2:], mode="nearest-exact").long()
                          for o in outputs[1:]]
    weights = [1 / 2**i for i in range(len(outputs))]
    weights[-1] = 0
    weights = [w / sum(weights) for w in weights]
    out = {f"output.{i}": o for i, o in enumerate(outputs)} | {f"target.{i}": t for i, t in enumerate(targets)}
    for name, batch_dice in (("sample", False), ("batch", True)):
        one = DC_and_CE_loss({"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": False, "ddp": False}, {}, 1, 1,
                             dice_class=MemoryEfficientSoftDiceLoss)
        loss = DeepSupervisionWrapper(one, weights)(outputs, targets)
        net.zero_grad()
        loss.backward(retain_graph=True)
        out[f"{name}.loss"] = loss
        for i, o in enumerate(outputs):
            out[f"{name}.dice.{i}"], out[f"{name}.ce.{i}"] = one.dc(o, targets[i]), one.ce(o, targets[i][:, 0])
            d, = torch.autograd.grad(weights[i] * one(o, targets[i]), o, retain_graph=True)
            out[f"{name}.grad.output.{i}"] = d
        out |= {f"{name}.{k}": v for k, v in gradients(net).items()}
    save(file, out)


run("unet2d.safetensors", (4, 8, 8, 8), nn.Conv2d, nn.InstanceNorm2d, 3, (1, 2, 2, 2), (16, 16))
run("unet3d.safetensors", (4, 8, 8), nn.Conv3d, nn.InstanceNorm3d, [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    [[1, 1, 1], [1, 2, 2], [2, 2, 2]], (4, 12, 12))

"""The Zipformer encoder in PyTorch: front end, stacks at several frame rates, output."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alp_jax.interop.torch_module.layers import (
    BiasNorm,
    Bypass,
    FrameLengths,
    Layer,
    ceil_div,
    relative_positions,
    swoosh_l,
    swoosh_r,
)
from alp_jax.interop.torch_module.logmel import valid_mask

FRONTEND_CHANNELS = (8, 32, 128)
MIN_FRAMES = 9  # the shortest features that give one frame; shorter clips repeat their last one
PER_STACK = ("num_encoder_layers", "downsampling_factor", "feedforward_dim", "num_heads", "query_head_dim")
PER_STACK += ("value_head_dim", "pos_head_dim", "cnn_module_kernel")


def per_stack(config: dict, name: str) -> list[int]:
    """The setting ``name`` of every stack; a single value holds for all."""
    values, stacks = config[name], len(config["encoder_dim"])
    if len(values) not in (1, stacks):
        raise ValueError(f"{name} has {len(values)} values for {stacks} stacks")
    return list(values) * (stacks if len(values) == 1 else 1)


class ConvNeXt(nn.Module):
    """A residual block: a 7 x 7 depthwise convolution and two pointwise ones."""

    def __init__(self, width: int):
        super().__init__()
        self.depthwise_conv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.pointwise_conv1 = nn.Conv2d(width, 3 * width, 1)
        self.pointwise_conv2 = nn.Conv2d(3 * width, width, 1)

    def forward(self, x_BCTF: Tensor) -> Tensor:
        """(B, channels, T, F) to the same shape."""
        return x_BCTF + self.pointwise_conv2(swoosh_l(self.pointwise_conv1(self.depthwise_conv(x_BCTF))))


class FrontEnd(nn.Module):
    """100 frames of log-mel per second become 50 vectors per second: T frames give (T - 7) // 2."""

    def __init__(self, num_bins: int, width: int, channels: tuple[int, int, int]):
        super().__init__()
        one, two, three = channels
        conv0 = nn.Conv2d(1, one, 3, padding=(0, 1))
        conv4 = nn.Conv2d(one, two, 3, stride=2)
        self.conv = nn.ModuleDict({"0": conv0, "4": conv4, "7": nn.Conv2d(two, three, 3, stride=(1, 2))})
        self.convnext = ConvNeXt(three)
        self.out = nn.Linear(three * (((num_bins - 1) // 2 - 1) // 2), width)
        self.out_norm = BiasNorm(width)

    def forward(self, mel_BTF: Tensor, end_B: Tensor) -> Tensor:
        """(B, T, num_bins) to (B, (T - 7) // 2, width); ``end_B`` are the clips' ends in frames of the output."""
        x = mel_BTF[:, None]
        for conv in self.conv.values():
            x = swoosh_r(conv(x))
        # so far no frame has seen beyond its clip; the next convolution looks three frames ahead
        x = self.convnext(x * valid_mask(end_B, x.shape[2])[:, None, :, None])
        return self.out_norm(self.out(x.transpose(1, 2).flatten(2)))


class Downsample(nn.Module):
    """Weighted mean of every ``factor`` frames; frames from ``end_B`` on repeat the last one before it."""

    def __init__(self, factor: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(factor))

    def forward(self, x_BTD: Tensor, end_B: Tensor) -> Tensor:
        """(B, T, D) to (B, T / factor rounded up, D)."""
        factor = len(self.bias)
        index_T = torch.arange(ceil_div(x_BTD.shape[1], factor) * factor, device=x_BTD.device)
        index_BT = torch.minimum(index_T, end_B[:, None] - 1)
        windows = x_BTD.gather(1, index_BT[..., None].expand(-1, -1, x_BTD.shape[2]))
        windows = windows.reshape(x_BTD.shape[0], -1, factor, x_BTD.shape[2])
        return (windows * self.bias.softmax(0)[:, None]).sum(2)


class Layers(nn.Module):
    """The layers of a stack at one frame rate."""

    def __init__(self, width: int, size: dict, pos_dim: int, causal: bool):
        super().__init__()
        self.pos_dim = pos_dim
        self.layers = nn.ModuleList(Layer(width, size, pos_dim, causal) for _ in range(size["num_encoder_layers"]))

    def forward(self, x_BTD: Tensor, lengths: FrameLengths) -> Tensor:
        """(B, T, width) to the same shape."""
        pos_ND = relative_positions(x_BTD.shape[1], x_BTD, self.pos_dim)
        for layer in self.layers:
            x_BTD = layer(x_BTD, pos_ND, lengths)
        return x_BTD


class DownsampledLayers(nn.Module):
    """The layers at a lower frame rate, repeated back to the full rate and mixed with the input."""

    def __init__(self, width: int, size: dict, pos_dim: int, causal: bool):
        super().__init__()
        self.factor = size["downsampling_factor"]
        self.downsample, self.out_combiner = Downsample(self.factor), Bypass(width)
        self.encoder = Layers(width, size, pos_dim, causal)

    def forward(self, x_BTD: Tensor, lengths: FrameLengths) -> Tensor:
        """(B, T, width) to the same shape."""
        short = self.encoder(self.downsample(x_BTD, lengths.end_B), lengths.downsampled(self.factor))
        return self.out_combiner(x_BTD, short.repeat_interleave(self.factor, dim=1)[:, : x_BTD.shape[1]])


class Stacks(nn.Module):
    """The stacks and the weighted mean that halves the frame rate at the end."""

    def __init__(self, config: dict):
        super().__init__()
        self.widths = config["encoder_dim"]
        sizes = [{name: per_stack(config, name)[i] for name in PER_STACK} for i in range(len(self.widths))]
        self.encoders = nn.ModuleList(
            (Layers if size["downsampling_factor"] == 1 else DownsampledLayers)(
                width, size, config["pos_dim"], config["causal"]
            )
            for width, size in zip(self.widths, sizes, strict=True)
        )
        self.downsample_output = Downsample(config["output_downsampling_factor"])

    def forward(self, x_BTD: Tensor, lengths: FrameLengths) -> Tensor:
        """(B, T, D) to (B, T / output factor rounded up, widest stack)."""
        outputs = []
        for width, stack in zip(self.widths, self.encoders, strict=True):
            x_BTD = stack(F.pad(x_BTD, (0, width - x_BTD.shape[2])), lengths)  # pads with zeros, or cuts
            outputs.append(x_BTD)
        pieces, covered = [x_BTD], x_BTD.shape[2]
        for x in reversed(outputs):  # channels that only earlier, wider stacks have
            if x.shape[2] > covered:
                pieces.append(x[..., covered:])
                covered = x.shape[2]
        return self.downsample_output(torch.cat(pieces, -1), lengths.end_B)


class Zipformer(nn.Module):
    """The encoder on log-mel features; ``config`` is the encoder's part of config.json."""

    def __init__(self, config: dict):
        super().__init__()
        channels = config.get("frontend_channels", FRONTEND_CHANNELS)  # the original implementation has no such key
        self.encoder_embed = FrontEnd(config["feature_dim"], config["encoder_dim"][0], channels)
        self.encoder = Stacks(config)
        self.chunk = config["chunk_size"][0] if config["causal"] else -1
        self.left_frames = config["left_context_frames"][0]
        self.output_factor = config["output_downsampling_factor"]

    def forward(self, mel_BTF: Tensor, len_B: Tensor, padding: str = "exact") -> tuple[Tensor, Tensor]:
        """(frames_BTD, len_B): ((T - 7) // 2) frames divided by the output factor, rounded up.

        ``padding="exact"`` computes every clip as if it were alone; ``"reference"`` takes the padding of the batch for
        sound, as the original implementation does.
        """
        if padding not in ("exact", "reference"):
            raise ValueError(f"padding={padding!r} must be 'exact' or 'reference'")
        if padding == "exact":
            last_B = len_B.clamp(min=1) - 1
            mel_BTF = F.pad(mel_BTF, (0, 0, 0, max(0, MIN_FRAMES - mel_BTF.shape[1])))
            index_T = torch.arange(mel_BTF.shape[1], device=len_B.device)
            index_BT = torch.where(index_T < MIN_FRAMES, torch.minimum(index_T, last_B[:, None]), index_T)
            mel_BTF = mel_BTF.gather(1, index_BT[..., None].expand_as(mel_BTF))
            len_B = len_B.clamp(min=MIN_FRAMES)
        len_B = (len_B - 7) // 2
        length = (mel_BTF.shape[1] - 7) // 2
        end_B = len_B if padding == "exact" else torch.full_like(len_B, length)
        x_BTD = self.encoder_embed(mel_BTF, end_B)
        lengths = FrameLengths(valid_mask(len_B, length), end_B, self._allowed(length, len_B.device), self.chunk)
        return self.encoder(x_BTD, lengths), ceil_div(len_B, self.output_factor)

    def _allowed(self, length: int, device: torch.device) -> Tensor | None:
        """(T, T): a frame sees its own chunk and those within the left context."""
        if self.chunk <= 0:
            return None
        chunk_T = torch.arange(length, device=device) // self.chunk
        back_TT = chunk_T[:, None] - chunk_T
        limit = max(self.left_frames // self.chunk, 1) if self.left_frames >= 0 else length
        return (back_TT >= 0) & (back_TT <= limit)

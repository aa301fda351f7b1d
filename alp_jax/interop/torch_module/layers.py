"""The modules of a Zipformer layer in PyTorch, named as in the original implementation."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MASKED = -1000.0  # finite, so that a row with nothing to attend to is uniform
ANGLES = torch.float64  # what relative positions are computed in


def ceil_div(a, b: int):
    """a / b rounded up, of integers or integer tensors."""
    return (a + b - 1) // b


def heads_apart(x: Tensor, heads: int) -> Tensor:
    """(..., H * D) -> (..., H, D); a trace of ``unflatten`` would note the lengths of its example."""
    return x.reshape(*x.shape[:-1], heads, -1)


def swoosh_l(x: Tensor) -> Tensor:
    """softplus(x - 4) - 0.08 x - 0.035, elementwise."""
    return F.softplus(x - 4.0) - 0.08 * x - 0.035


def swoosh_r(x: Tensor) -> Tensor:
    """softplus(x - 1) - 0.08 x - 0.313, elementwise; 0 at 0."""
    return F.softplus(x - 1.0) - 0.08 * x - 0.313261687


class BiasNorm(nn.Module):
    """x * exp(log_scale) / rms(x - bias)."""

    def __init__(self, width: int):
        super().__init__()
        self.log_scale, self.bias = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same shape."""
        return x * ((x - self.bias).square().mean(-1, keepdim=True).rsqrt() * self.log_scale.exp())


class FrameLengths:
    """Where clips end at one frame rate: ``valid_BT``, ``end_B``, and for chunked models who may look at whom."""

    def __init__(self, valid_BT: Tensor, end_B: Tensor, allowed_TT: Tensor | None = None, chunk: int = -1):
        self.valid_BT, self.end_B, self.allowed_TT, self.chunk = valid_BT, end_B, allowed_TT, chunk

    def downsampled(self, factor: int) -> "FrameLengths":
        """The same clips after ``factor`` frames became one: a window counts when its first frame does."""
        allowed_TT = None if self.allowed_TT is None else self.allowed_TT[::factor, ::factor]
        chunk = self.chunk // factor if self.chunk > 0 else -1
        return FrameLengths(self.valid_BT[:, ::factor], ceil_div(self.end_B, factor), allowed_TT, chunk)


def relative_positions(length: int, like: Tensor, width: int) -> Tensor:
    """(2 length - 1, width): offsets on a logarithmic scale as angles; the last column is 1."""
    offset = torch.arange(1 - length, length, device=like.device)[:, None].to(ANGLES)
    root = math.sqrt(width)
    compressed = root * offset.sign() * torch.log1p(offset.abs() / root)
    angle = torch.atan(compressed * (2 * math.pi / width)) * torch.arange(1, width // 2 + 1, device=like.device)
    table = torch.stack([angle.cos(), angle.sin()], -1).flatten(1)
    return torch.cat([table[:, :-1], torch.ones_like(table[:, :1])], -1).to(like.dtype)


class AttentionWeights(nn.Module):
    """Attention weights from content and relative positions, shared by three modules of a layer."""

    def __init__(self, width: int, pos_dim: int, heads: int, query_dim: int, pos_head_dim: int):
        super().__init__()
        self.heads, self.query_dim, self.pos_head_dim = heads, query_dim, pos_head_dim
        self.in_proj = nn.Linear(width, heads * (2 * query_dim + pos_head_dim))
        self.linear_pos = nn.Linear(pos_dim, heads * pos_head_dim, bias=False)

    def forward(self, x_BTD: Tensor, pos_ND: Tensor, lengths: FrameLengths) -> Tensor:
        """(B, H, T, T); content and position scores are not divided by the root of the head size."""
        length, wide = x_BTD.shape[1], self.heads * self.query_dim
        parts = self.in_proj(x_BTD).split([wide, wide, self.heads * self.pos_head_dim], -1)
        q, k, p = (heads_apart(part, self.heads).transpose(1, 2) for part in parts)
        table_NHP = heads_apart(self.linear_pos(pos_ND), self.heads)
        step = torch.arange(length, device=x_BTD.device)
        table_TSHP = table_NHP[length - 1 - step[:, None] + step]
        scores = q @ k.transpose(-1, -2) + torch.einsum("bhtp,tshp->bhts", p, table_TSHP)
        allowed = lengths.valid_BT[:, None, None, :]
        if lengths.allowed_TT is not None:
            allowed = allowed & lengths.allowed_TT
        return scores.masked_fill(~allowed, MASKED).softmax(-1)


class SelfAttention(nn.Module):
    """Values weighted by attention weights from elsewhere."""

    def __init__(self, width: int, heads: int, value_dim: int):
        super().__init__()
        self.heads = heads
        self.in_proj, self.out_proj = nn.Linear(width, heads * value_dim), nn.Linear(heads * value_dim, width)

    def forward(self, x_BTD: Tensor, weights_BHTT: Tensor) -> Tensor:
        """(B, T, width) to the same shape."""
        values = heads_apart(self.in_proj(x_BTD), self.heads).transpose(1, 2)
        return self.out_proj((weights_BHTT @ values).transpose(1, 2).flatten(2))


class NonlinAttention(nn.Module):
    """The weights of one head applied to gated values, with a gate on the result."""

    def __init__(self, width: int):
        super().__init__()
        hidden = 3 * width // 4
        self.in_proj, self.out_proj = nn.Linear(width, 3 * hidden), nn.Linear(hidden, width)

    def forward(self, x_BTD: Tensor, weights_BTT: Tensor) -> Tensor:
        """(B, T, width) to the same shape."""
        gate, value, out_gate = self.in_proj(x_BTD).chunk(3, -1)
        return self.out_proj((weights_BTT @ (value * gate.tanh())) * out_gate)


class FeedForward(nn.Module):
    """Two linear layers with a SwooshL between them."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.in_proj, self.out_proj = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same shape."""
        return self.out_proj(swoosh_l(self.in_proj(x)))


class ChunkCausalConv(nn.Module):
    """A causal depthwise convolution plus one that stays within its chunk, corrected near the chunk's edges."""

    def __init__(self, width: int, taps: int):
        super().__init__()
        self.half = taps // 2
        self.causal_conv = nn.Conv1d(width, width, self.half + 1, groups=width)
        self.chunkwise_conv = nn.Conv1d(width, width, taps, padding=self.half, groups=width)
        self.chunkwise_conv_scale = nn.Parameter(torch.zeros(2, width, taps))

    def forward(self, x_BCT: Tensor, lengths: FrameLengths) -> Tensor:
        """(B, width, T) to the same shape."""
        length = x_BCT.shape[2]
        window = lengths.chunk if lengths.chunk > 0 else length
        padded = F.pad(x_BCT, (0, -length % window))
        chunks = padded.reshape(*padded.shape[:2], -1, window).transpose(1, 2)
        inside = self.chunkwise_conv(chunks.flatten(0, 1)).view(chunks.shape).transpose(1, 2).flatten(2)[..., :length]
        return self.causal_conv(F.pad(x_BCT, (self.half, 0))) + inside * self._scale(length, lengths)

    def _scale(self, length: int, lengths: FrameLengths) -> Tensor:
        """(B, C, T): 1 plus what the edges of each clip's own chunks add."""
        taps = self.chunkwise_conv_scale.shape[2]
        chunk_B1 = lengths.end_B[:, None].clamp(max=lengths.chunk if lengths.chunk > 0 else length)
        from_left_BT = torch.arange(length, device=chunk_B1.device) % chunk_B1
        scale = torch.ones((), device=chunk_B1.device)
        for table_CK, index_BT in zip(
            self.chunkwise_conv_scale, (from_left_BT, from_left_BT - chunk_B1 + taps), strict=True
        ):
            near = (index_BT >= 0) & (index_BT < taps)
            scale = scale + table_CK[:, index_BT.clamp(0, taps - 1)].transpose(0, 1) * near[:, None]
        return scale


class ConvolutionModule(nn.Module):
    """A gated depthwise convolution over time; frames beyond the end of a clip count as zeros."""

    def __init__(self, width: int, taps: int, causal: bool):
        super().__init__()
        self.causal = causal
        self.in_proj, self.out_proj = nn.Linear(width, 2 * width), nn.Linear(width, width)
        symmetric = nn.Conv1d(width, width, taps, padding=taps // 2, groups=width)
        self.depthwise_conv = ChunkCausalConv(width, taps) if causal else symmetric

    def forward(self, x_BTD: Tensor, lengths: FrameLengths) -> Tensor:
        """(B, T, width) to the same shape."""
        value, gate = self.in_proj(x_BTD).chunk(2, -1)
        x = (value * gate.sigmoid() * lengths.valid_BT[..., None]).transpose(1, 2)
        x = self.depthwise_conv(x, lengths) if self.causal else self.depthwise_conv(x)
        return self.out_proj(swoosh_r(x.transpose(1, 2)))


class Bypass(nn.Module):
    """A mix of two inputs with a learnt weight per channel: 0 is all the first, 1 all the second."""

    def __init__(self, width: int):
        super().__init__()
        self.bypass_scale = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, original: Tensor, changed: Tensor) -> Tensor:
        """Both (..., width), to the same shape."""
        return original + (changed - original) * self.bypass_scale


class Layer(nn.Module):
    """Attention weights computed once, eight residual modules, a bypass half way, BiasNorm and a bypass."""

    def __init__(self, width: int, size: dict, pos_dim: int, causal: bool):
        super().__init__()
        heads, hidden, taps = size["num_heads"], size["feedforward_dim"], size["cnn_module_kernel"]
        query_dim, pos_head_dim, value_dim = size["query_head_dim"], size["pos_head_dim"], size["value_head_dim"]
        self.bypass, self.bypass_mid = Bypass(width), Bypass(width)
        self.bypass_scale = nn.Parameter(torch.full((width,), 0.5))  # unused, but part of every checkpoint
        self.self_attn_weights = AttentionWeights(width, pos_dim, heads, query_dim, pos_head_dim)
        self.self_attn1, self.self_attn2 = (SelfAttention(width, heads, value_dim) for _ in range(2))
        self.feed_forward1 = FeedForward(width, hidden * 3 // 4)
        self.feed_forward2 = FeedForward(width, hidden)
        self.feed_forward3 = FeedForward(width, hidden * 5 // 4)
        self.nonlin_attention = NonlinAttention(width)
        self.conv_module1, self.conv_module2 = (ConvolutionModule(width, taps, causal) for _ in range(2))
        self.norm = BiasNorm(width)

    def forward(self, x_BTD: Tensor, pos_ND: Tensor, lengths: FrameLengths) -> Tensor:
        """(B, T, width) to the same shape; ``pos_ND`` is from ``relative_positions``."""
        weights_BHTT = self.self_attn_weights(x_BTD, pos_ND, lengths)
        x = x_BTD + self.feed_forward1(x_BTD)
        x = x + self.nonlin_attention(x, weights_BHTT[:, 0])
        x = x + self.self_attn1(x, weights_BHTT)
        x = x + self.conv_module1(x, lengths)
        x = x + self.feed_forward2(x)
        x = self.bypass_mid(x_BTD, x)
        x = x + self.self_attn2(x, weights_BHTT)
        x = x + self.conv_module2(x, lengths)
        x = x + self.feed_forward3(x)
        return self.bypass(x_BTD, self.norm(x))

"""Layers of torch.nn, sorted by what they do to channels."""

from __future__ import annotations

from torch import nn

CONVOLUTIONS: dict[type[nn.Module], int] = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
TRANSPOSED_CONVOLUTIONS: dict[type[nn.Module], int] = {
    nn.ConvTranspose1d: 1,
    nn.ConvTranspose2d: 2,
    nn.ConvTranspose3d: 3,
}
SPATIAL_AXES = CONVOLUTIONS | TRANSPOSED_CONVOLUTIONS

BATCH_OR_INSTANCE_NORMS: frozenset[type[nn.Module]] = frozenset(
    {
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
        *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    }
)
LAST_AXIS_NORMS: frozenset[type[nn.Module]] = frozenset({nn.LayerNorm, nn.RMSNorm})

# The same to every entry, whatever its place: any axis may hold the channels.
POINTWISE: frozenset[type[nn.Module]] = frozenset(
    {
        *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU),
        *(nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.LogSigmoid, nn.Softplus),
        *(nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Hardshrink, nn.Softshrink, nn.Tanhshrink),
        *(nn.Softsign, nn.Threshold, nn.Dropout, nn.AlphaDropout),
    }
)
# Every channel by itself, along the spatial axes: rank of the image.
DROPOUTS_OF_CHANNELS: frozenset[type[nn.Module]] = frozenset(
    {nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.FeatureAlphaDropout}
)
_POOLS = ("MaxPool", "AvgPool", "AdaptiveMaxPool", "AdaptiveAvgPool")
_PADS = ("ReflectionPad", "ReplicationPad", "ZeroPad", "ConstantPad", "CircularPad")
SPATIAL: dict[type[nn.Module], int] = {
    getattr(nn, f"{name}{rank}d"): rank for name in (*_POOLS, *_PADS) for rank in (1, 2, 3)
}
UPSAMPLING: frozenset[type[nn.Module]] = frozenset(
    {nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d}
)

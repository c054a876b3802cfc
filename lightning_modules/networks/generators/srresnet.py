"""The generator of SRGAN without its upsampling: residual blocks at full resolution, then tanh.

Ledig et al., CVPR 2017, doi:10.1109/CVPR.2017.19. Source and target have one grid here, so that the
stages that enlarge are left out. Nothing is ever made smaller, so that nothing draws a checkerboard
and slices may have any size; for the same reason a step takes about nine times that of the default
U-Net (``jobs/experiments/srresnet.yaml`` says how it was measured).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedi2i.errors import ConfigError
from lightning_modules.networks.generators.interface import Generator, Size

if TYPE_CHECKING:
    from torch import nn

    from lightning_modules.networks.configuration import GeneratorConfig
    from lightning_modules.networks.layers import MakeNorm


def _refuse(config: GeneratorConfig, size: Size) -> None:
    if config.residual_units == 0:
        raise ConfigError(
            "model.generator.residual_units is 0, but a 'srresnet' is made of residual blocks; "
            "give at least 1 for each of model.generator.channels (the paper has 16 blocks in all)"
        )
    if config.upsampling != "transposed":
        raise ConfigError(
            f"model.generator.upsampling is '{config.upsampling}', but a 'srresnet' stays at full "
            "resolution and has no way up; leave the key out"
        )


def _build(config: GeneratorConfig, in_channels: int) -> nn.Module:
    """``residual_units`` blocks of each width in ``channels``, one stretch after the other."""
    # Imported here, as reading a configuration should not wait for torch and MONAI.
    from torch import nn

    from lightning_modules.networks.layers import Residual, Stages, norm_layer

    norm = norm_layer(config.norm)
    first, last = config.channels[0], config.channels[-1]
    trunk = nn.Sequential(*_blocks(config, norm), nn.Conv2d(last, first, 3, padding=1), norm(first))
    stages = {
        "stem": nn.Sequential(nn.Conv2d(in_channels, first, 9, padding=4), nn.PReLU()),
        "trunk": Residual(trunk),
        "head": nn.Conv2d(first, 1, 9, padding=4),
    }
    return Stages(stages, encoder=("stem", "trunk"))


def _blocks(config: GeneratorConfig, norm: MakeNorm) -> list[nn.Module]:
    """The residual blocks, and a convolution wherever the width changes."""
    from torch import nn

    blocks: list[nn.Module] = []
    width = config.channels[0]
    for channels in config.channels:
        if channels != width:
            convolution = nn.Conv2d(width, channels, 3, padding=1)
            blocks.append(nn.Sequential(convolution, norm(channels), nn.PReLU()))
        width = channels
        blocks += [_block(width, norm, config.dropout) for _ in range(config.residual_units)]
    return blocks


def _block(channels: int, norm: MakeNorm, dropout: float) -> nn.Module:
    from torch import nn

    from lightning_modules.networks.layers import Residual

    return Residual(
        nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            norm(channels),
            nn.PReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(channels, channels, 3, padding=1),
            norm(channels),
        )
    )


GENERATOR = Generator(
    kind="srresnet",
    summary="residual blocks at full resolution (SRGAN's generator, Ledig et al., CVPR 2017)",
    refuse=_refuse,
    build=_build,
)

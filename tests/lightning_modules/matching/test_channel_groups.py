"""Channel groups as a table."""

from __future__ import annotations

import torch
from matching_networks import NETWORKS
from torch import nn

from lightning_modules.matching.channel_groups import groups_table
from lightning_modules.matching.network_groups import channel_groups


def test_the_table_says_for_every_tensor_whose_channels_stand_where() -> None:
    network = nn.Sequential(
        *(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten()),
        *(nn.Linear(12, 4), nn.PReLU(4), nn.Linear(4, 2)),
    )
    table = groups_table(channel_groups(network, (torch.zeros(1, 1, 4, 4),)))
    assert table == (
        "group  channels  first made by\n"
        "1      3         0\n"
        "2      4         3\n"
        "\n"
        "tensor                 axes                   note\n"
        "0.weight               0: 1[3]  1: pinned[1]  network input\n"
        "0.bias                 0: 1[3]                cancelled by a normalisation\n"
        "1.weight               0: 1[3]\n"
        "1.bias                 0: 1[3]\n"
        "1.running_mean         0: 1[3]\n"
        "1.running_var          0: 1[3]\n"
        "3.weight               0: 2[4]  1: 1[3x4]\n"
        "3.bias                 0: 2[4]\n"
        "4.weight               0: 2[4]\n"
        "5.weight               0: pinned[2]  1: 2[4]  network output\n"
        "5.bias                 0: pinned[2]           network output\n"
        "1.num_batches_tracked  none\n"
    )


def test_every_key_has_a_line() -> None:
    case = NETWORKS["MONAI attention U-Net"]
    lines = groups_table(case.groups_found()).splitlines()
    named = {line.split()[0] for line in lines if line}
    assert set(case.example().state_dict()) <= named

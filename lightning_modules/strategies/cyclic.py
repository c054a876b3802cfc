"""Cyclic weight transfer: the model goes from site to site."""

from __future__ import annotations

from lightning_modules.strategies.interface import RING, YES, Mechanisms, Paper, Strategy

STRATEGY = Strategy(
    name="cyclic",
    label="Cyclic",
    does="passes one model from site to site instead of averaging",
    paper=Paper(
        "Chang et al., JAMIA 2018",
        "doi:10.1093/jamia/ocy017",
        "chang2018cyclic",
        "w_t+1 = train(w_t, next site)",
    ),
    topology=RING,
    acts=False,
    mechanisms=Mechanisms(
        secure_aggregation="no server adds anything up; models go from site to site",
        update_level_dp="one site receives what the one before has trained, and so its noise alone",
        patient_level_dp=YES,
        encryption="one site receives what the one before has trained, and nothing is added up",
    ),
)

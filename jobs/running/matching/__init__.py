"""The matching study: train models apart, merge them in every way, and measure what that loses.

It is no comparison of arms: nothing is federated before the merge, the unit is a pair or a group of
finished models, and one trained model serves many measurements. It therefore has a runner of its
own behind ``fedi2i study``, without the simulator.
"""

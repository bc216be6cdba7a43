"""What the connectivity of one network says of its activity.

balancing   synapse counts -> coupling matrix
statistics  strength, effective rank, motifs
overlaps    whether left and right vectors of the modes know of each other
regime      whether the theory applies at all
nulls       networks of equal singular values, run like the fit
report      `diagnose`, which puts these together
wording     and says it in plain words
"""

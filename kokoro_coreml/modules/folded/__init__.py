"""The network for the Neural Engine: layout (1, channels, rows, width), time folded into rows.

Parameters keep upstream's names; `weights.load_upstream` gives them their two more axes. Affine
parameters of AdaIN come from outside (`styles`), and so do masks: nothing here counts in integers.
"""

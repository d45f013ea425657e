"""What an output has to look like: schemas, expressions and grammars as masks over the vocabulary.

`compiler` is the way in. A constraint is compiled by llguidance, first on trial in a process of its own
(`trial`, `trial_process`), which can be ended when it takes too long, and then for good.
"""

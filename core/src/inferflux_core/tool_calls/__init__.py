"""Tools that models call: how families of models spell calls, and how answers are read and steered.

`formats` tells from a chat template how its model spells calls; `prompting` puts tools and calls into a
conversation; `grammar` forces calls where the caller demands them; `parser` reads answers as they come.
"""

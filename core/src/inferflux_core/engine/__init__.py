"""The engine: requests in, tokens out, one model.

It speaks token ids only; text enters through `preparation` and leaves through `detokenizer`, and no
module here knows which library or device executes the model.
"""

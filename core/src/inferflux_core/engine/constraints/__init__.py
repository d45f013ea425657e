"""What an output has to look like: schemas, expressions and grammars as masks over the vocabulary."""

"""A bounded reader of pickles and archives that runs no code from them."""

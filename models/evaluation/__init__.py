"""How good a model is: metrics, BLEU, the report of a run, and several runs side by side."""

"""The steps of a run: train, craft, evaluate, embed, examples; one main function each."""

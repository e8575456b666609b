"""what experiments have in common: their form, results that are kept, verdicts, figures, the page"""

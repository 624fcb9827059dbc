"""From Python source to IR: one builder that types, folds, inlines and gives every value one variable."""

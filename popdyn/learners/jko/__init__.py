"""The JKO step as learners solve it: the inner problem, and how well it was solved."""

"""The questions: each is a statement over the views and how its answer is drawn."""

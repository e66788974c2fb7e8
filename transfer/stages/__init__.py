"""The stages of training: data and a model's configuration become a `Task`; and what they leave is
loaded again."""
